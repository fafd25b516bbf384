// Each renderer in the one colour that LookdevExporter gave it; what has none is the set, 0.
Shader "Hidden/LookdevId"
{
    Properties { _LookdevId ("Id", Vector) = (0, 0, 0, 1) }
    SubShader
    {
        Pass
        {
            CGPROGRAM
            #pragma vertex vertex
            #pragma fragment fragment
            #include "UnityCG.cginc"
            float4 _LookdevId;
            float4 vertex(float4 place : POSITION) : SV_POSITION { return UnityObjectToClipPos(place); }
            float4 fragment() : SV_Target { return _LookdevId; }
            ENDCG
        }
    }
}
