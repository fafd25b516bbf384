"""The layout of a material row, and the kinds that samples/stage/paint.py and shade.py know.

A row is float64 [MATERIAL_WIDTH]:

    0        kind: one of the figure's below WALLS, one of the set's from there on
    1..3     colour, linear RGB
    4..6     second colour: hair of a face, shirt under a vest, joints of a wall
    7..9     steel face: colour of its eyes; torso: where its core is in the world, metres;
             set: 7 is the pattern's pitch
    10, 11   strength and exponent of the highlight
    12       metal, 0 or 1
    13..15   emission, linear RGB
    16, 17   beard, glasses: 0 or 1
    18       grey of the engine look
    19       scale of the body, 1 = 1.75 m
"""

from __future__ import annotations

MATERIAL_WIDTH = 20

MATTE, SKIN_KIND, FACE, HAIR_KIND, STEEL, CLOTH_KIND, VEST_KIND, MESH_KIND = range(8)
GLASS_TORSO, STEEL_FACE, COAT_KIND = range(8, 11)

WALLS = 20
PLAIN, PANELS, BRICKS, GLASS_WALL, VAULT = range(WALLS, WALLS + 5)
