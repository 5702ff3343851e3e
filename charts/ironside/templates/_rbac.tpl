{{/* A role and who has it: dict root, kind (ClusterRole, Role), name, account, component, rules, namespace. */}}
{{- define "ironside.role" -}}
{{- $isCluster := eq .kind "ClusterRole" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  {{- if not $isCluster }}
  namespace: {{ .namespace }}
  {{- end }}
  labels:
    {{- include "ironside.labels" . | nindent 4 }}
rules:
  {{- .rules | trim | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}Binding
metadata:
  name: {{ .name }}
  {{- if not $isCluster }}
  namespace: {{ .namespace }}
  {{- end }}
  labels:
    {{- include "ironside.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ .account }}
    namespace: {{ .root.Release.Namespace }}
{{- end -}}
