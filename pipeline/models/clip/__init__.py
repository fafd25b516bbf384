"""Package data: the byte-pair merges of OpenAI's CLIP (NOTICE.txt says where they are from)."""
