"""A procedural film stage: what an engine would export, and the film look it should become.

World: metres, right-handed, y up. A figure at rest faces +z, its left hand toward +x.
Camera space: X right, Y up, Z forward; a point projects to (cx + f X / Z, cy - f Y / Z) pixels, with pixel
centres at integer coordinates. The passes follow the legend in docs/architecture.md.
"""
