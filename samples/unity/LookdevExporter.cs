// Writes what the camera shows as a lookdev shot: picture, depth, motion vectors, ids, joints, camera.
// Built-in render pipeline, Unity 2021.3 or later. How to use it and what it writes: README.md beside this file.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Text;
using UnityEngine;

[RequireComponent(typeof(Camera))]
public sealed class LookdevExporter : MonoBehaviour
{
    [Tooltip("The shot's folder; made where it is not there.")]
    public string folder = "Shots/shot";
    public int framesPerSecond = 24;
    public int firstFrame = 1;
    public int numFrames = 48;
    public int width = 1280;
    public int height = 720;
    [Tooltip("Figures with a Humanoid avatar, in the order of their ids. They look ahead when play begins.")]
    public Animator[] figures = Array.Empty<Animator>();
    [Tooltip("Off: only joints and camera, beside what Unity Recorder writes (URP, HDRP).")]
    public bool writePasses = true;
    public Shader copyShader; // LookdevCopy.shader
    public Shader idShader; // LookdevId.shader

    const float Slack = 0.16f; // metres that a joint may lie behind the surface over it: a thick limb's radius
    const float Nothing = 1e9f; // depth from here on is "nothing was hit"
    static readonly int IdProperty = Shader.PropertyToID("_LookdevId");

    // OpenPose's 18 points; LastBone marks those that ride on the head.
    static readonly HumanBodyBones[] Bones =
    {
        HumanBodyBones.LastBone, HumanBodyBones.Neck,
        HumanBodyBones.RightUpperArm, HumanBodyBones.RightLowerArm, HumanBodyBones.RightHand,
        HumanBodyBones.LeftUpperArm, HumanBodyBones.LeftLowerArm, HumanBodyBones.LeftHand,
        HumanBodyBones.RightUpperLeg, HumanBodyBones.RightLowerLeg, HumanBodyBones.RightFoot,
        HumanBodyBones.LeftUpperLeg, HumanBodyBones.LeftLowerLeg, HumanBodyBones.LeftFoot,
        HumanBodyBones.LastBone, HumanBodyBones.LastBone, HumanBodyBones.LastBone, HumanBodyBones.LastBone,
    };

    // Metres from the head bone of an adult (avatar scale 1): to the figure's right, up, forward.
    static readonly Dictionary<int, Vector3> Face = new Dictionary<int, Vector3>
    {
        { 0, new Vector3(0f, 0.06f, 0.11f) }, // nose
        { 14, new Vector3(0.032f, 0.09f, 0.085f) }, { 15, new Vector3(-0.032f, 0.09f, 0.085f) }, // eyes: right, left
        { 16, new Vector3(0.0725f, 0.075f, 0.01f) }, { 17, new Vector3(-0.0725f, 0.075f, 0.01f) }, // ears
    };

    Camera _camera, _idCamera;
    Material _copy;
    RenderTexture _colour, _depth, _motion, _ids;
    Texture2D _colourRead, _depthRead, _motionRead, _idsRead;
    Quaternion[] _headAhead; // from the head bone's axes to the figure's, as they were when play began
    readonly StringBuilder _joints = new StringBuilder();
    int _done;

    void Start()
    {
        _camera = GetComponent<Camera>();
        Time.captureFramerate = framesPerSecond; // every rendered frame is one of the film's, however long it takes
        _camera.allowMSAA = false; // depth, vectors and ids must not be averaged
        _camera.depthTextureMode |= DepthTextureMode.Depth | DepthTextureMode.MotionVectors;
        Directory.CreateDirectory(folder);
        var ahead = new List<Quaternion>();
        for (int figure = 0; figure < figures.Length; figure++)
        {
            if (figures[figure].avatar == null || !figures[figure].isHuman)
                Debug.LogError($"{figures[figure].name}: its avatar is not Humanoid; set its rig to Humanoid");
            Transform head = figures[figure].GetBoneTransform(HumanBodyBones.Head);
            ahead.Add(head == null ? Quaternion.identity : Quaternion.Inverse(head.rotation) * figures[figure].transform.rotation);
            NumberParts(figures[figure], figure + 1);
        }
        _headAhead = ahead.ToArray();
        if (!writePasses) return;
        _copy = new Material(copyShader);
        _colour = new RenderTexture(width, height, 24, RenderTextureFormat.ARGB32, RenderTextureReadWrite.sRGB);
        _depth = new RenderTexture(width, height, 0, RenderTextureFormat.ARGBFloat, RenderTextureReadWrite.Linear);
        _motion = new RenderTexture(width, height, 0, RenderTextureFormat.ARGBFloat, RenderTextureReadWrite.Linear);
        _ids = new RenderTexture(width, height, 24, RenderTextureFormat.ARGB32, RenderTextureReadWrite.Linear);
        _colourRead = new Texture2D(width, height, TextureFormat.RGB24, false);
        _depthRead = new Texture2D(width, height, TextureFormat.RGBAFloat, false, true);
        _motionRead = new Texture2D(width, height, TextureFormat.RGBAFloat, false, true);
        _idsRead = new Texture2D(width, height, TextureFormat.RGB24, false, true);
        _idCamera = new GameObject("lookdev ids").AddComponent<Camera>();
        _idCamera.enabled = false;
        _camera.targetTexture = _colour;
    }

    // id = 256 * figure + part: green and blue of the id pass.
    static void NumberParts(Animator animator, int figure)
    {
        Renderer[] parts = animator.GetComponentsInChildren<Renderer>();
        for (int part = 0; part < parts.Length; part++)
        {
            var block = new MaterialPropertyBlock();
            parts[part].GetPropertyBlock(block);
            block.SetVector(IdProperty, new Vector4(0f, figure / 255f, Mathf.Min(part + 1, 255) / 255f, 1f));
            parts[part].SetPropertyBlock(block);
        }
    }

    // The depth and motion textures are whole here, after the camera's own rendering.
    void OnRenderImage(RenderTexture source, RenderTexture destination)
    {
        Graphics.Blit(source, destination);
        if (!writePasses) return;
        Graphics.Blit(source, _depth, _copy, 0);
        Graphics.Blit(source, _motion, _copy, 1);
    }

    void OnPostRender()
    {
        if (writePasses) StartCoroutine(WriteAtEnd());
    }

    void LateUpdate()
    {
        if (!writePasses) WriteFrame();
    }

    System.Collections.IEnumerator WriteAtEnd()
    {
        yield return new WaitForEndOfFrame();
        WriteFrame();
    }

    void WriteFrame()
    {
        if (_done >= numFrames) return;
        int number = firstFrame + _done;
        if (writePasses) WritePasses(number);
        _joints.Append(_done == 0 ? "" : ",\n").Append(FrameRecord(number));
        if (++_done < numFrames) return;
        File.WriteAllText(Path.Combine(folder, "joints.json"), "{\"joints\": \"coco18\", \"frames\": [\n" + _joints + "\n]}\n");
        File.WriteAllText(Path.Combine(folder, "shot.toml"), $"fps = \"{framesPerSecond}/1\"\n");
        Debug.Log($"lookdev: {numFrames} frames in {Path.GetFullPath(folder)}; next: lookdev shot probe --one-frame");
        enabled = false;
    }

    void WritePasses(int number)
    {
        const Texture2D.EXRFlags floats = Texture2D.EXRFlags.OutputAsFloat | Texture2D.EXRFlags.CompressZIP;
        Save("rgb", number, "png", Read(_colour, _colourRead).EncodeToPNG());
        Save("depth", number, "exr", Read(_depth, _depthRead).EncodeToEXR(floats));
        Save("motion", number, "exr", Read(_motion, _motionRead).EncodeToEXR(floats));
        _idCamera.CopyFrom(_camera); // a camera of its own: a second rendering would move the vectors' past
        _idCamera.enabled = false;
        _idCamera.targetTexture = _ids;
        _idCamera.depthTextureMode = DepthTextureMode.None;
        _idCamera.clearFlags = CameraClearFlags.SolidColor;
        _idCamera.backgroundColor = Color.clear;
        _idCamera.RenderWithShader(idShader, "");
        Save("ids", number, "png", Read(_ids, _idsRead).EncodeToPNG());
    }

    Texture2D Read(RenderTexture from, Texture2D into)
    {
        RenderTexture active = RenderTexture.active;
        RenderTexture.active = from;
        into.ReadPixels(new Rect(0, 0, width, height), 0, 0);
        into.Apply();
        RenderTexture.active = active;
        return into;
    }

    void Save(string pass, int number, string suffix, byte[] data)
    {
        string place = Path.Combine(folder, pass);
        Directory.CreateDirectory(place);
        File.WriteAllBytes(Path.Combine(place, $"{pass}.{number:0000}.{suffix}"), data);
    }

    // One line of joints.json.
    string FrameRecord(int number)
    {
        var described = new List<string>();
        for (int figure = 0; figure < figures.Length; figure++)
        {
            var points = new List<string>();
            var world = new List<string>();
            for (int joint = 0; joint < Bones.Length; joint++)
            {
                Vector3? place = Place(figures[figure], figure, joint);
                points.Add(OnPicture(place));
                world.Add(InWorld(place ?? Vector3.zero));
            }
            described.Add($"{{\"name\": {Quoted(figures[figure].name)}, \"id\": {figure + 1}, " +
                $"\"points\": [{string.Join(", ", points)}], \"world\": [{string.Join(", ", world)}]}}");
        }
        return $"{{\"frame\": {number}, \"figures\": [{string.Join(", ", described)}], \"camera\": {CameraRecord()}}}";
    }

    Vector3? Place(Animator animator, int figure, int joint)
    {
        if (Bones[joint] != HumanBodyBones.LastBone)
        {
            Transform bone = animator.GetBoneTransform(Bones[joint]);
            return bone == null ? (Vector3?)null : bone.position; // the neck is optional in an avatar
        }
        Transform head = animator.GetBoneTransform(HumanBodyBones.Head);
        if (head == null) return null;
        return head.position + head.rotation * _headAhead[figure] * (Face[joint] * animator.humanScale);
    }

    // x, y in pixels (centres at integers, y down) and 2 seen, 1 hidden, 0 outside or not there.
    string OnPicture(Vector3? place)
    {
        if (place == null) return "[0, 0, 0]";
        Vector3 view = _camera.WorldToViewportPoint(place.Value);
        float x = view.x * width - 0.5f, y = (1f - view.y) * height - 0.5f;
        int column = Mathf.RoundToInt(x), row = Mathf.RoundToInt(y), seen = 0;
        if (view.z > 0f && column >= 0 && row >= 0 && column < width && row < height)
            seen = !writePasses || view.z - _depthRead.GetPixel(column, height - 1 - row).r < Slack ? 2 : 1;
        return $"[{Number(x)}, {Number(y)}, {seen}]";
    }

    string CameraRecord()
    {
        Transform at = _camera.transform;
        float focal = 0.5f * height / Mathf.Tan(0.5f * _camera.fieldOfView * Mathf.Deg2Rad); // fieldOfView is vertical
        return $"{{\"position\": {InWorld(at.position)}, " +
            $"\"rotation\": [{InWorld(at.right)}, {InWorld(at.up)}, {InWorld(at.forward)}], " +
            $"\"focal\": {Number(focal)}, \"width\": {width}, \"height\": {height}, " +
            "\"space\": \"world metres, y up; rotation rows are right, up, forward; pixel centres at integers\"}";
    }

    // Unity's space is left-handed: z is turned round.
    static string InWorld(Vector3 place) => $"[{Number(place.x)}, {Number(place.y)}, {Number(-place.z)}]";

    static string Number(float value) => value.ToString("0.######", CultureInfo.InvariantCulture);

    static string Quoted(string text) => "\"" + text.Replace("\\", "\\\\").Replace("\"", "\\\"") + "\"";
}
