"""Render a Blender scene as a lookdev shot: picture, depth, normals, vectors, ids, joints, camera.

    blender -b film.blend -P lookdev_export.py -- --out shots/walk [--start 1 --end 24] [--samples 64]
    python lookdev_export.py --file film.blend --out shots/walk      # with the module bpy

Blender 3.4 to 4.x, Cycles. lookdev_files.py and lookdev_joints.py belong beside this file. The scene is
rendered as it is, once a frame, but for motion blur, which vectors cannot have; it is not saved.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from bpy_extras.object_utils import world_to_camera_view

sys.path.insert(0, str(Path(__file__).resolve().parent))
import lookdev_files
import lookdev_joints

LARGEST_INDEX = 127  # figures; an id is 256 * figure + part, and Blender's index ends at 32767
SLACK = 0.16  # metres that a joint may lie behind the surface over it: a thick limb's radius
VECTOR_STEPS = 128  # to a pixel: samples' noise below it would make the files twice as large
Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # Blender's z is up, a shot's y


def arguments() -> argparse.Namespace:
    """What stands after `--`; all of it where Python itself runs this file."""
    given = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    parser = argparse.ArgumentParser(prog="lookdev_export.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the shot's folder")
    parser.add_argument("--file", type=Path, help="a .blend to open; default: the one that is open")
    parser.add_argument("--start", type=int, help="first frame; default: the scene's")
    parser.add_argument("--end", type=int, help="last frame; default: the scene's")
    parser.add_argument("--samples", type=int, help="Cycles samples a pixel; default: the scene's")
    parser.add_argument("--joints", type=Path, help="JSON of joint -> bone name, where names are not known")
    return parser.parse_args(None if "--" not in sys.argv and not given else given)


def export(
    out: Path,
    *,
    start: int | None = None,
    end: int | None = None,
    samples: int | None = None,
    bones: dict[str, str] | None = None,
) -> None:
    """Render the open scene's frames start..end into `out`; frames that are there already are kept."""
    scene = bpy.context.scene
    if scene.camera is None:
        raise SystemExit("error: the scene has no camera; set one (Scene properties, Camera)")
    figures = number_figures(scene)
    set_up(scene, samples)
    first, last = start or scene.frame_start, end or scene.frame_end
    frames = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, last + 1):
            scene.frame_set(number)
            if not (out / "ids" / f"ids.{number:04d}.png").exists():
                render_frame(scene, out, number, Path(folder))
            depth = lookdev_files.read_exr(out / "depth" / f"depth.{number:04d}.exr")["Z"]
            frames.append(joints_of(scene, figures, number, depth, bones or {}))
    lookdev_joints.write_joints(out / "joints.json", frames)
    write_sidecar(scene, out, [name for name, _ in figures])


def number_figures(scene: Any) -> list[tuple[str, Any]]:
    """(name, armature) of each figure; meshes that hang on one get the index 256 * figure + part.

    Meshes with an index of their own keep it if they hang on no armature: then they belong to the set.
    """
    armatures = sorted((o for o in scene.objects if o.type == "ARMATURE"), key=lambda o: o.name)
    if len(armatures) > LARGEST_INDEX:
        raise SystemExit(f"error: {len(armatures)} armatures; at most {LARGEST_INDEX} fit into the index")
    for figure, armature in enumerate(armatures, start=1):
        meshes = sorted((o for o in scene.objects if hangs_on(o, armature)), key=lambda o: o.name)
        for part, mesh in enumerate(meshes, start=1):
            mesh.pass_index = 256 * figure + min(part, 255)
    return [(armature.name, armature) for armature in armatures]


def hangs_on(thing: Any, armature: Any) -> bool:
    """Whether a mesh is moved by an armature: by a modifier, or as its child at any depth."""
    if thing.type != "MESH":
        return False
    if any(m.type == "ARMATURE" and m.object == armature for m in thing.modifiers):
        return True
    parent = thing.parent
    while parent is not None and parent != armature:
        parent = parent.parent
    return parent is not None


def set_up(scene: Any, samples: int | None) -> None:
    """Cycles with the passes, all in one uncompressed EXR of 32-bit floats, without motion blur."""
    scene.render.engine = "CYCLES"
    if samples is not None:
        scene.cycles.samples = samples
    if scene.render.use_motion_blur:
        print("note: motion blur is off: vectors cannot have it")
        scene.render.use_motion_blur = False
    layer = scene.view_layers[0]
    layer.use_pass_z = layer.use_pass_normal = layer.use_pass_vector = layer.use_pass_object_index = True
    scene.render.use_compositing = scene.render.use_sequencer = False
    scene.render.use_file_extension = False


def render_frame(scene: Any, out: Path, number: int, scratch: Path) -> None:
    """One frame's passes; ids are written last, so that they say that the frame is there."""
    image = scene.render.image_settings
    image.file_format, image.color_depth, image.exr_codec = "OPEN_EXR_MULTILAYER", "32", "NONE"
    layers = scratch / "layers.exr"
    scene.render.filepath = str(layers)
    bpy.ops.render.render(write_still=True)
    save_picture(scene, out / "rgb" / f"rgb.{number:04d}.png")
    planes = lookdev_files.read_exr(layers)

    def plane(ending: str) -> np.ndarray[Any, Any]:
        return next(values for name, values in planes.items() if name.endswith(ending))

    depth = plane("Depth.Z")
    hit = depth < 1e9
    lookdev_files.write_exr(out / "depth" / f"depth.{number:04d}.exr", {"Z": np.where(hit, depth, np.inf)})
    world = np.stack([plane(f"Normal.{axis}") for axis in "XYZ"], axis=-1)  # [H, W, 3]
    rotation = np.array(scene.camera.matrix_world.normalized().to_3x3())  # columns: right, up, backward
    normal = world @ rotation
    lookdev_files.write_exr(
        out / "normal" / f"normal.{number:04d}.exr", {a: normal[..., i] for i, a in enumerate("XYZ")}
    )
    vectors = {
        f"Vector.{axis}": np.rint(plane(f"Vector.{axis}") * VECTOR_STEPS) / VECTOR_STEPS for axis in "XYZW"
    }
    lookdev_files.write_exr(out / "motion" / f"motion.{number:04d}.exr", vectors)
    lookdev_files.write_png16(out / "ids" / f"ids.{number:04d}.png", np.rint(plane("IndexOB.X")))


def save_picture(scene: Any, path: Path) -> None:
    """What was rendered, through the scene's view transform, as an 8-bit PNG."""
    image = scene.render.image_settings
    path.parent.mkdir(parents=True, exist_ok=True)
    image.file_format, image.color_mode, image.color_depth, image.compression = "PNG", "RGB", "8", 90
    bpy.data.images["Render Result"].save_render(str(path), scene=scene)


def joints_of(
    scene: Any,
    figures: list[tuple[str, Any]],
    number: int,
    depth: np.ndarray[Any, Any],
    own: dict[str, str],
) -> dict[str, Any]:
    """One frame of joints.json: every armature's joints on the picture and in the world, and the camera."""
    described = []
    for figure, (name, armature) in enumerate(figures, start=1):
        space = joints_in_space(armature, own)
        points, world = [], []
        for joint in lookdev_joints.ORDER:
            points.append(on_picture(scene, space.get(joint), depth))
            world.append([round(float(v), 4) for v in Y_UP @ space.get(joint, np.zeros(3))])
        described.append({"name": name, "id": figure, "points": points, "world": world})
    return {"frame": number, "figures": described, "camera": camera_of(scene)}


def joints_in_space(armature: Any, own: dict[str, str]) -> dict[str, np.ndarray[Any, Any]]:
    """Joint -> [3] in the world; face points without bones of their own ride on the head bone."""
    pose, place = armature.pose.bones, armature.matrix_world
    bones = lookdev_joints.bones_of([bone.name for bone in pose], own)
    space = {joint: np.array(place @ pose[bone].head) for joint, bone in bones.items() if joint != "head"}
    if "neck" not in space and {"r-shoulder", "l-shoulder"} <= space.keys():
        space["neck"] = (space["r-shoulder"] + space["l-shoulder"]) / 2.0
    if "head" in bones:
        rest = {joint: np.array(pose[bone].bone.head_local) for joint, bone in bones.items()}
        head = pose[bones["head"]]
        carry = np.array(place @ head.matrix @ head.bone.matrix_local.inverted())  # [4, 4]
        for joint, point in lookdev_joints.face_at_rest(rest, np.array(head.bone.tail_local)).items():
            space.setdefault(joint, carry[:3, :3] @ point + carry[:3, 3])
    return space


def on_picture(scene: Any, place: np.ndarray[Any, Any] | None, depth: np.ndarray[Any, Any]) -> list[float]:
    """x, y in pixels, and 2 seen, 1 hidden, 0 outside or not there."""
    if place is None:
        return [0.0, 0.0, 0]
    from mathutils import Vector

    height, width = depth.shape
    u, v, z = world_to_camera_view(scene, scene.camera, Vector(place))
    x, y = u * width - 0.5, (1.0 - v) * height - 0.5
    column, row = round(x), round(y)
    if z <= 0.0 or not (0 <= column < width and 0 <= row < height):
        return [round(x, 3), round(y, 3), 0]
    return [round(x, 3), round(y, 3), 2 if z - depth[row, column] < SLACK else 1]


def camera_of(scene: Any) -> dict[str, Any]:
    """The camera as the stage writes it: rotation rows are right, up, forward; focal in pixels."""
    camera = scene.camera
    scale = scene.render.resolution_percentage / 100.0
    width, height = (round(side * scale) for side in (scene.render.resolution_x, scene.render.resolution_y))
    matrix = np.array(camera.matrix_world.normalized())
    rotation = (Y_UP @ matrix[:3, :3]).T * np.array([[1.0], [1.0], [-1.0]])  # it looks along -z
    corner = camera.data.view_frame(scene=scene)  # the frame's corners at the distance -z
    across = abs(corner[0].x - corner[2].x)
    return {
        "position": [round(float(v), 6) for v in Y_UP @ matrix[:3, 3]],
        "rotation": [[round(float(v), 8) for v in row] for row in rotation],
        "focal": width * abs(corner[0].z) / across,
        "width": width,
        "height": height,
        "space": "world metres, y up; rotation rows are right, up, forward; pixel centres at integers",
    }


def write_sidecar(scene: Any, out: Path, names: list[str]) -> None:
    """shot.toml: the exact rate, the figures, and how Blender writes vectors."""
    top, bottom = round(scene.render.fps * 1000), round(scene.render.fps_base * 1000)
    shared = math.gcd(top, bottom)
    vector = 'channels = ["{}", "{}"], unit = "pixels", scale = [{}], offset = 0.0, absent = "never"'
    lines = [
        f'fps = "{top // shared}/{bottom // shared}"',
        f"name = {json.dumps(out.resolve().name)}",
        f"characters = {json.dumps(names)}",
        "",
        "[motion]",
        'encoding = "blender"',
        f"forward = {{ {vector.format('Vector.Z', 'Vector.W', '-1.0, 1.0')} }}",
        f"backward = {{ {vector.format('Vector.X', 'Vector.Y', '1.0, -1.0')} }}",
    ]
    (out / "shot.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Run from Blender's command line, or as a script with the module bpy."""
    given = arguments()
    if given.file is not None:
        bpy.ops.wm.open_mainfile(filepath=str(given.file.resolve()))
    bones = json.loads(given.joints.read_text(encoding="utf-8")) if given.joints else None
    export(given.out, start=given.start, end=given.end, samples=given.samples, bones=bones)


if __name__ == "__main__":
    main()
