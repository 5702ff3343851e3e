{{/* What cannot work, said before anything is made. */}}
{{- define "ironside.checks" -}}
{{- $injector := .Values.dapr_sidecar_injector -}}
{{- $user := $injector.sidecarRunAsUser -}}
{{- $isGiven := not (or (kindIs "invalid" $user) (eq (toString $user) "")) -}}
{{- if and $isGiven (not $injector.sidecarRunAsNonRoot) (ne (int $user) 0) -}}
{{- fail "dapr_sidecar_injector.sidecarRunAsNonRoot is false, so sidecars may run as root, but sidecarRunAsUser names another user: set sidecarRunAsNonRoot=true, or leave sidecarRunAsUser out" -}}
{{- end -}}
{{- if and $isGiven $injector.sidecarRunAsNonRoot (le (int $user) 0) -}}
{{- fail "dapr_sidecar_injector.sidecarRunAsNonRoot is true, so sidecarRunAsUser must be greater than 0" -}}
{{- end -}}
{{- $ha := .Values.global.ha -}}
{{- $policies := list "preferredDuringSchedulingIgnoredDuringExecution" "requiredDuringSchedulingIgnoredDuringExecution" -}}
{{- if not (has $ha.podAntiAffinityPolicy $policies) -}}
{{- fail (printf "global.ha.podAntiAffinityPolicy is %q: it must be one of %s" $ha.podAntiAffinityPolicy (join ", " $policies)) -}}
{{- end -}}
{{- if and $ha.disruption.minimumAvailable $ha.disruption.maximumUnavailable (ne (toString $ha.disruption.maximumUnavailable) "25%") -}}
{{- fail "global.ha.disruption: set minimumAvailable or maximumUnavailable, not both" -}}
{{- end -}}
{{- if ne .Values.dapr_sentry.mode "kubernetes" -}}
{{- fail "dapr_sentry.mode must be kubernetes in a cluster" -}}
{{- end -}}
{{- $tls := .Values.dapr_sentry.tls -}}
{{- $given := 0 -}}
{{- range list $tls.issuer.certPEM $tls.issuer.keyPEM -}}{{- if . -}}{{- $given = add1 $given -}}{{- end -}}{{- end -}}
{{- if or (eq (int $given) 1) (and (eq (int $given) 2) (not $tls.root.certPEM)) -}}
{{- fail "dapr_sentry.tls: issuer.certPEM, issuer.keyPEM and root.certPEM belong together: give all three, or the root alone, or none" -}}
{{- end -}}
{{- include "ironside.foreign" . -}}
{{- end -}}

{{/* Two control planes of Dapr's names cannot share a cluster. Asks the API server; renders without one pass. */}}
{{- define "ironside.foreign" -}}
{{- $hook := lookup "admissionregistration.k8s.io/v1" "MutatingWebhookConfiguration" "" "dapr-sidecar-injector" -}}
{{- if $hook -}}
{{- $notes := $hook.metadata.annotations | default dict -}}
{{- $name := index $notes "meta.helm.sh/release-name" | default "" -}}
{{- $space := index $notes "meta.helm.sh/release-namespace" | default "" -}}
{{- if or (ne $name .Release.Name) (ne $space .Release.Namespace) -}}
{{- $owner := ternary (printf "the Helm release %s in namespace %s" $name $space) "no Helm release" (ne $name "") -}}
{{- fail (printf "this cluster has a Dapr control plane already: its MutatingWebhookConfiguration dapr-sidecar-injector belongs to %s. Two cannot share a cluster. To move from Dapr, export its trust bundle, uninstall it, and install with dapr_sentry.tls.*: see docs/kubernetes.md" $owner) -}}
{{- end -}}
{{- end -}}
{{- $crd := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "accesscontrols.dapr.io" -}}
{{- if $crd -}}
{{- $labels := $crd.metadata.labels | default dict -}}
{{- if ne (index $labels "app.kubernetes.io/part-of" | default "") "ironside" -}}
{{- fail "this cluster has a CustomResourceDefinition accesscontrols.dapr.io of another project (it lacks the label app.kubernetes.io/part-of=ironside): it is not taken over. Remove it if its objects are not needed, then install again" -}}
{{- end -}}
{{- end -}}
{{- end -}}
