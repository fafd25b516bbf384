// Pass 0: depth along the view axis in metres, 1e10 where nothing was hit. Pass 1: motion vectors as Unity has them.
Shader "Hidden/LookdevCopy"
{
    SubShader
    {
        Cull Off ZWrite Off ZTest Always

        CGINCLUDE
        #include "UnityCG.cginc"
        sampler2D_float _CameraDepthTexture;
        sampler2D_half _CameraMotionVectorsTexture;
        ENDCG

        Pass
        {
            CGPROGRAM
            #pragma vertex vert_img
            #pragma fragment depth
            float4 depth(v2f_img i) : SV_Target
            {
                float raw = SAMPLE_DEPTH_TEXTURE(_CameraDepthTexture, i.uv);
                float metres = Linear01Depth(raw) >= 0.9999 ? 1e10 : LinearEyeDepth(raw);
                return float4(metres, metres, metres, 1.0);
            }
            ENDCG
        }

        Pass
        {
            CGPROGRAM
            #pragma vertex vert_img
            #pragma fragment motion
            float4 motion(v2f_img i) : SV_Target
            {
                return float4(tex2D(_CameraMotionVectorsTexture, i.uv).rg, 0.0, 1.0);
            }
            ENDCG
        }
    }
}
