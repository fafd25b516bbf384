"""A small film scene for the exporter: a figure of simple bodies walks through a room, the camera goes along.

blender -b --factory-startup -P walk_scene.py -- --out samples/shots/blender_walk
python walk_scene.py --out samples/shots/blender_walk           # with the module bpy
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import bpy
from mathutils import Vector

sys.path.insert(0, str(Path(__file__).resolve().parent))
import lookdev_export

# Bone -> (its parent, where it begins and ends in metres, the radius of the body on it). The figure looks
# along -y; its left is +x. Names are Rigify's.
BONES: dict[str, tuple[str, tuple[float, float, float], tuple[float, float, float], float]] = {
    "hips": ("", (0, 0, 0.92), (0, 0, 1.08), 0.15),
    "chest": ("hips", (0, 0, 1.08), (0, 0, 1.42), 0.17),
    "neck": ("chest", (0, 0, 1.42), (0, 0, 1.52), 0.06),
    "head": ("neck", (0, 0, 1.52), (0, 0, 1.76), 0.11),
    "upper_arm.L": ("chest", (0.2, 0, 1.4), (0.24, 0, 1.12), 0.055),
    "forearm.L": ("upper_arm.L", (0.24, 0, 1.12), (0.25, -0.04, 0.86), 0.045),
    "hand.L": ("forearm.L", (0.25, -0.04, 0.86), (0.25, -0.05, 0.76), 0.045),
    "thigh.L": ("hips", (0.1, 0, 0.92), (0.1, 0, 0.5), 0.085),
    "shin.L": ("thigh.L", (0.1, 0, 0.5), (0.1, 0.02, 0.09), 0.06),
    "foot.L": ("shin.L", (0.1, 0.02, 0.09), (0.1, -0.16, 0.04), 0.05),
}
STEP_FRAMES = 16.0  # a whole stride, left and right
COLOURS = {"skin": (0.6, 0.36, 0.25), "shirt": (0.1, 0.25, 0.55), "trousers": (0.12, 0.12, 0.1)}


def mirrored() -> dict[str, tuple[str, tuple[float, ...], tuple[float, ...], float]]:
    """All bones: those with .L again on the right."""
    bones: dict[str, tuple[str, tuple[float, ...], tuple[float, ...], float]] = dict(BONES)
    for name, (parent, head, tail, radius) in BONES.items():
        if name.endswith(".L"):
            flip = [(-place[0], place[1], place[2]) for place in (head, tail)]
            bones[name[:-1] + "R"] = (parent.replace(".L", ".R"), flip[0], flip[1], radius)
    return bones


def patterned(name: str, colour: tuple[float, float, float], scale: float) -> Any:
    """A material with a pattern that sticks to its surface: bare grey tells nothing of how it moves."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    place, noise = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value, noise.inputs["Detail"].default_value = scale, 3.0
    ramp = nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.4, 0.6
    ramp.color_ramp.elements[0].color = (*(0.35 * c for c in colour), 1.0)
    ramp.color_ramp.elements[1].color = (*(min(1.0, 1.5 * c) for c in colour), 1.0)
    links.new(place.outputs["Object"], noise.inputs["Vector"])
    links.new(noise.outputs["Fac"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], nodes["Principled BSDF"].inputs["Base Color"])
    nodes["Principled BSDF"].inputs["Roughness"].default_value = 1.0
    return material


def build_figure() -> Any:
    """The armature, with an ellipsoid on every bone."""
    data = bpy.data.armatures.new("walker")
    armature = bpy.data.objects.new("walker", data)
    bpy.context.scene.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    for name, (parent, head, tail, _) in mirrored().items():
        bone = data.edit_bones.new(name)
        bone.head, bone.tail = head, tail
        bone.parent = data.edit_bones[parent] if parent else None
    bpy.ops.object.mode_set(mode="OBJECT")
    materials = {name: patterned(name, colour, 18.0) for name, colour in COLOURS.items()}
    for name, (_, head, tail, radius) in mirrored().items():
        add_body(armature, name, Vector(head), Vector(tail), radius, materials)
    return armature


def add_body(
    armature: Any, bone: str, head: Vector, tail: Vector, radius: float, materials: dict[str, Any]
) -> None:
    """An ellipsoid from a bone's head to its tail, carried by the bone."""
    length = (tail - head).length
    bpy.ops.mesh.primitive_uv_sphere_add(segments=32, ring_count=16, radius=1.0)
    body = bpy.context.object
    body.name = f"body_{bone}"
    bpy.ops.object.shade_smooth()
    for vertex in body.data.vertices:  # along the bone's own y
        x, y, z = vertex.co
        vertex.co = (x * radius, (z * 0.62) * length, y * radius)
    legs = bone.startswith(("thigh", "shin", "hips"))
    kind = "trousers" if legs else "shirt" if bone.startswith(("chest", "upper_arm")) else "skin"
    body.data.materials.append(materials[kind])
    body.parent, body.parent_type, body.parent_bone = armature, "BONE", bone
    body.location = (0.0, -0.5 * length, 0.0)  # a bone's children hang at its tail


def animate(armature: Any, num_frames: int) -> None:
    """A walk that grows faster: limbs swing, the body bobs; every frame is keyed."""
    for frame in range(0, num_frames + 2):  # one more at both ends, which the vectors look at
        t = frame + 0.012 * frame**2
        phase = 2.0 * math.pi * t / STEP_FRAMES
        armature.location = (0.0, 1.1 - 0.045 * t, 0.02 * abs(math.sin(phase)))
        armature.keyframe_insert("location", frame=frame)
        for side, sign in (("L", 1.0), ("R", -1.0)):
            swing = sign * math.sin(phase)
            turns = {
                f"thigh.{side}": 0.5 * swing,
                f"shin.{side}": -0.35 - 0.35 * math.cos(phase) * sign,
                f"upper_arm.{side}": -0.45 * swing,
                f"forearm.{side}": 0.3,
            }
            for name, angle in turns.items():
                bone = armature.pose.bones[name]
                bone.rotation_mode = "XYZ"
                bone.rotation_euler = (angle, 0.0, 0.0)
                bone.keyframe_insert("rotation_euler", frame=frame)


def build_room() -> None:
    """A floor, two walls, and a box that stands before the far one."""
    plaster = patterned("plaster", (0.5, 0.47, 0.42), 6.0)
    wood = patterned("wood", (0.4, 0.25, 0.12), 9.0)
    for location, rotation, material in (
        ((0, 0, 0), (0, 0, 0), wood),
        ((0, 3, 0), (math.pi / 2, 0, 0), plaster),
        ((-2.6, 0, 0), (0, math.pi / 2, 0), plaster),
    ):
        bpy.ops.mesh.primitive_plane_add(size=16, location=location, rotation=rotation)
        bpy.context.object.data.materials.append(material)
    bpy.ops.mesh.primitive_cube_add(size=0.8, location=(1.2, 2.2, 0.4), rotation=(0, 0, 0.5))
    bpy.context.object.data.materials.append(wood)
    bpy.context.object.pass_index = 1


def build_camera(num_frames: int) -> None:
    """A lens that moves sideways and in, and turns with the figure; a window's light and a soft sky."""
    scene = bpy.context.scene
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    camera.data.lens = 32
    for frame in range(0, num_frames + 2):
        share = frame / num_frames
        camera.location = (1.5 - 0.7 * share**1.5, -3.0 + 0.2 * share, 1.35 + 0.1 * share)
        aim = Vector((-0.1 - 0.1 * share, 0.3, 0.95)) - camera.location
        camera.rotation_euler = aim.to_track_quat("-Z", "Y").to_euler()
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_euler", frame=frame)
    lamp = bpy.data.objects.new("window", bpy.data.lights.new("window", "AREA"))
    scene.collection.objects.link(lamp)
    lamp.data.size, lamp.data.energy = 3.0, 220.0
    lamp.location, lamp.rotation_euler = (2.5, -2.0, 3.2), (0.75, 0.3, 0.6)
    scene.world = bpy.data.worlds.new("sky")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.5


def build(width: int, height: int, num_frames: int) -> None:
    """The whole scene, in place of what is open."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.render.resolution_percentage = 100
    scene.render.fps, scene.frame_start, scene.frame_end = 24, 1, num_frames
    scene.render.engine = "CYCLES"
    scene.cycles.use_denoising = False
    scene.cycles.seed = 1
    scene.view_settings.view_transform = "Standard"
    build_room()
    animate(build_figure(), num_frames)
    build_camera(num_frames)


def main() -> None:
    """Build the scene and render it as a shot."""
    given = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    parser = argparse.ArgumentParser(prog="walk_scene.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the shot's folder")
    parser.add_argument("--size", default="256x144", help="width x height")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--samples", type=int, default=48, help="Cycles samples a pixel")
    parser.add_argument("--threads", type=int, help="default: all")
    parser.add_argument("--blend", type=Path, help="also save the scene as a .blend")
    options = parser.parse_args(given)
    width, height = (int(side) for side in options.size.split("x"))
    build(width, height, options.frames)
    if options.threads:
        bpy.context.scene.render.threads_mode = "FIXED"
        bpy.context.scene.render.threads = options.threads
    if options.blend is not None:
        bpy.ops.wm.save_as_mainfile(filepath=str(options.blend.resolve()))
    lookdev_export.export(options.out, samples=options.samples)


if __name__ == "__main__":
    main()
