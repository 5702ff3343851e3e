{{/* The image of a program: dict root, name. */}}
{{- define "ironside.image" -}}
{{- if contains "/" .name -}}
{{ .name }}
{{- else -}}
{{- $registry := required (include "ironside.noRegistry" .) .root.Values.global.registry -}}
{{ $registry }}/{{ .name }}:{{ .root.Values.global.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "ironside.noRegistry" -}}
global.registry is not set, and no images are published yet. Build them with `cargo xtask images --out images`, or with an engine from the Dockerfile; push them, or load images/ironside.tar into the nodes; then say --set global.registry=<registry> --set global.tag=<tag>. For loaded images: --set global.registry=ironside.test --set global.tag=e2e --set global.imagePullPolicy=Never --set dapr_sidecar_injector.sidecarImagePullPolicy=Never
{{- end -}}

{{/* Labels of an object: dict root, component. */}}
{{- define "ironside.labels" -}}
{{- $root := .root -}}
app.kubernetes.io/component: {{ .component }}
{{- range $name, $value := $root.Values.global.k8sLabels }}
{{ $name }}: {{ tpl $value $root | quote }}
{{- end }}
{{- end -}}

{{- define "ironside.sentryAddress" -}}
{{- if .Values.global.mtls.sentryAddress -}}
{{ .Values.global.mtls.sentryAddress }}
{{- else -}}
dapr-sentry.{{ .Release.Namespace }}.svc.{{ .Values.dapr_sidecar_injector.kubeClusterDomain }}:{{ .Values.dapr_sentry.ports.port }}
{{- end -}}
{{- end -}}

{{/* What the operator looks at; empty means everything. */}}
{{- define "ironside.watchNamespace" -}}
{{- if .Values.global.rbac.namespaced -}}
{{ .Values.dapr_operator.watchNamespace | default .Release.Namespace }}
{{- else -}}
{{ .Values.dapr_operator.watchNamespace }}
{{- end -}}
{{- end -}}

{{- define "ironside.replicas" -}}
{{- if .root.Values.global.ha.enabled -}}
{{ .root.Values.global.ha.replicaCount }}
{{- else -}}
{{ .values.replicaCount }}
{{- end -}}
{{- end -}}

{{- define "ironside.prometheus" -}}
{{- if .Values.global.prometheus.enabled -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .Values.global.prometheus.port | quote }}
prometheus.io/path: /
{{- end -}}
{{- end -}}

{{/* Arguments that all programs have: dict root, values. */}}
{{- define "ironside.args" -}}
- --log-level
- {{ .values.logLevel }}
{{- if .root.Values.global.logAsJson }}
- --log-as-json
{{- end }}
{{- if .root.Values.global.prometheus.enabled }}
- --enable-metrics
- --metrics-port
- {{ .root.Values.global.prometheus.port | quote }}
{{- else }}
- --enable-metrics=false
{{- end }}
{{- end -}}

{{/* The head of a Deployment: dict root, values, name, short, component. */}}
{{- define "ironside.deployment" -}}
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    app: {{ .name }}
    {{- include "ironside.labels" . | nindent 4 }}
{{- end -}}

{{/* The spec of a Deployment up to its containers. */}}
{{- define "ironside.rollout" -}}
replicas: {{ include "ironside.replicas" . }}
revisionHistoryLimit: 3
selector:
  matchLabels:
    app: {{ .name }}
strategy:
  type: RollingUpdate
  rollingUpdate:
    {{- $ha := .root.Values.global.ha }}
    maxSurge: 1
    {{- if and $ha.enabled (eq $ha.podAntiAffinityPolicy "requiredDuringSchedulingIgnoredDuringExecution") }}
    # A new one may have no place until an old one goes.
    maxUnavailable: 1
    {{- else }}
    # A new one is ready before an old one goes.
    maxUnavailable: 0
    {{- end }}
{{- end -}}

{{/* Labels and annotations of a pod. */}}
{{- define "ironside.podMetadata" -}}
labels:
  app: {{ .name }}
  {{- include "ironside.labels" . | nindent 2 }}
  {{- with .root.Values.global.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  dapr.io/control-plane: {{ .short }}
  kubectl.kubernetes.io/default-container: {{ .name }}
  {{- with include "ironside.prometheus" .root }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if .system }}
  # Read at start only.
  checksum/daprsystem: {{ include "ironside.mtls" .root | sha256sum }}
  {{- end }}
  {{- with .values.deploymentAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* What a pod has beside containers and volumes. */}}
{{- define "ironside.pod" -}}
{{- $global := .root.Values.global -}}
serviceAccountName: {{ .account }}
securityContext:
  runAsNonRoot: true
  {{- with $global.seccompProfile }}
  seccompProfile:
    type: {{ . }}
  {{- end }}
{{- with $global.imagePullSecrets }}
imagePullSecrets:
{{- if kindIs "string" . }}
  - name: {{ . }}
{{- else }}
{{- range . }}
  - name: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ .name }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- with $global.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $global.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $global.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            - key: kubernetes.io/os
              operator: In
              values: [{{ $global.daprControlPlaneOs }}]
            {{- with $global.daprControlPlaneArch }}
            - key: kubernetes.io/arch
              operator: In
              values: [{{ . }}]
            {{- end }}
  {{- if $global.ha.enabled }}
  podAntiAffinity:
    {{- if eq $global.ha.podAntiAffinityPolicy "requiredDuringSchedulingIgnoredDuringExecution" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: {{ $global.ha.topologyKey }}
        labelSelector:
          matchLabels:
            app: {{ .name }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: {{ $global.ha.topologyKey }}
          labelSelector:
            matchLabels:
              app: {{ .name }}
    {{- end }}
  {{- end }}
{{- if $global.ha.enabled }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        app: {{ .name }}
{{- end }}
{{- with index $global.initContainers .short }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What a main container has beside name, image, command, environment and ports. */}}
{{- define "ironside.container" -}}
{{- $global := .root.Values.global -}}
imagePullPolicy: {{ $global.imagePullPolicy }}
{{- if eq $global.daprControlPlaneOs "linux" }}
securityContext:
  {{- if .values.runAsNonRoot }}
  runAsNonRoot: true
  {{- else }}
  runAsUser: 1000
  {{- end }}
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
  {{- with $global.seccompProfile }}
  seccompProfile:
    type: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
livenessProbe:
  httpGet:
    path: /healthz
    port: healthz
  {{- toYaml .values.livenessProbe | nindent 2 }}
readinessProbe:
  httpGet:
    path: /healthz
    port: healthz
  {{- toYaml .values.readinessProbe | nindent 2 }}
{{- end -}}

{{- define "ironside.extraEnv" -}}
{{- range $name, $value := .values.extraEnvVars }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end -}}
{{- end -}}

{{/* The annotations of a Service: dict root, annotations. */}}
{{- define "ironside.serviceAnnotations" -}}
{{- $scrape := include "ironside.prometheus" .root -}}
{{- if or $scrape .annotations }}
annotations:
  {{- with $scrape }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .annotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What an operator or an injector needs to get its own certificate. */}}
{{- define "ironside.tokenVolume" -}}
- name: dapr-identity-token
  projected:
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 600
          audience: spiffe://{{ .Values.global.mtls.controlPlaneTrustDomain }}/ns/{{ .Release.Namespace }}/dapr-sentry
{{- end -}}

{{- define "ironside.tokenMount" -}}
- name: dapr-identity-token
  mountPath: /var/run/secrets/dapr.io/sentrytoken
  readOnly: true
{{- end -}}

{{/* spec.mtls of the system configuration. */}}
{{- define "ironside.mtls" -}}
enabled: {{ .Values.global.mtls.enabled }}
workloadCertTTL: {{ .Values.global.mtls.workloadCertTTL | quote }}
allowedClockSkew: {{ .Values.global.mtls.allowedClockSkew | quote }}
controlPlaneTrustDomain: {{ .Values.global.mtls.controlPlaneTrustDomain | quote }}
sentryAddress: {{ include "ironside.sentryAddress" . | quote }}
{{- end -}}

{{/* A budget for disruptions: dict root, name, budget, component. */}}
{{- define "ironside.disruption" -}}
{{- $ha := .root.Values.global.ha -}}
{{- if $ha.enabled }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .budget }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    app: {{ .name }}
    {{- include "ironside.labels" . | nindent 4 }}
spec:
  {{- if $ha.disruption.minimumAvailable }}
  minAvailable: {{ $ha.disruption.minimumAvailable }}
  {{- else }}
  maxUnavailable: {{ $ha.disruption.maximumUnavailable }}
  {{- end }}
  # A pod that is broken anyway does not hold up the draining of its node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      app: {{ .name }}
{{- end }}
{{- end -}}

{{- define "ironside.metricsPort" -}}
{{- if .Values.global.prometheus.enabled -}}
- name: metrics
  port: {{ .Values.global.prometheus.port }}
  targetPort: metrics
  protocol: TCP
  appProtocol: http
{{- end -}}
{{- end -}}

{{/*
What of an authority of the user's own is in the cluster already, as JSON: dict root, kind, given (its certificates, or
nothing). `sum` marks an object whose data came from values. If the same were given, or nothing is any more, `data` is
what is there now: to leave it out would have Helm delete it, and to repeat the values would undo what replaced them.
*/}}
{{- define "ironside.authority" -}}
{{- $held := lookup "v1" .kind .root.Release.Namespace "dapr-trust-bundle" | default dict -}}
{{- $mark := dig "metadata" "annotations" "checksum/authority" "" $held -}}
{{- $sum := "" -}}
{{- with .given -}}{{- $sum = sha256sum . -}}{{- end -}}
{{- $out := dict "sum" ($sum | default $mark) -}}
{{- if and $mark (or (not $sum) (eq $sum $mark)) -}}
{{- with $held.data -}}{{- $_ := set $out "data" . -}}{{- end -}}
{{- end -}}
{{- toJson $out -}}
{{- end -}}
