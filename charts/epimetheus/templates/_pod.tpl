{{/* The pod of every component: (dict "root" $ "c" component) */}}

{{- define "epi.podTemplate" -}}
{{- $root := .root -}}{{- $c := .c -}}
metadata:
  labels:
    {{- include "epi.labels" (dict "root" $root "component" $c.component "extra" (list $c.podLabels)) | nindent 4 }}
  {{- $sums := dict -}}
  {{- if and (include "epi.createObjstoreSecret" $root) (has $c.key (list "server" "storegateway" "ruler" "compactor" "bucketweb")) -}}
  {{- $_ := set $sums "checksum/objstore-configuration" (include "epi.objstoreConfig" $root | sha256sum) -}}
  {{- end -}}
  {{- with include (printf "epi.config.%s" $c.key) . -}}
  {{- $_ := set $sums (printf "checksum/%s-configuration" $c.component) (sha256sum .) -}}
  {{- end -}}
  {{- include "epi.annotations" (dict "root" $root "extra" (list $c.podAnnotations $sums)) | indent 2 }}
spec:
  {{- with include "epi.pullSecrets" $root }}
  imagePullSecrets:
    {{- . | nindent 4 }}
  {{- end }}
  serviceAccountName: {{ $c.serviceAccountName | quote }}
  automountServiceAccountToken: {{ $c.automountServiceAccountToken }}
  {{- if kindIs "bool" $c.hostUsers }}
  hostUsers: {{ $c.hostUsers }}
  {{- end }}
  {{- with $c.hostAliases }}
  hostAliases:
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
  {{- end }}
  {{- with include "epi.affinity" . }}
  affinity:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with $c.dnsConfig }}
  dnsConfig:
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
  {{- end }}
  {{- with $c.dnsPolicy }}
  dnsPolicy: {{ . | quote }}
  {{- end }}
  {{- with $c.nodeSelector }}
  nodeSelector:
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
  {{- end }}
  {{- with $c.tolerations }}
  tolerations:
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
  {{- end }}
  {{- with $c.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with $c.schedulerName }}
  schedulerName: {{ . | quote }}
  {{- end }}
  {{- if $c.podSecurityContext.enabled }}
  securityContext:
    {{- include "epi.securityContext" (dict "root" $root "context" $c.podSecurityContext) | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- include "epi.spread" . | nindent 4 }}
  {{- if eq $c.kind "CronJob" }}
  restartPolicy: {{ default "Never" $c.restartPolicy }}
  {{- end }}
  terminationGracePeriodSeconds: {{ default (add $c.drainSeconds $c.preStopSleepSeconds 10) $c.terminationGracePeriodSeconds | int }}
  {{- with $c.initContainers }}
  initContainers:
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
  {{- end }}
  containers:
    {{- with $c.sidecars }}
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
    {{- end }}
    - name: {{ default $c.component $c.containerName }}
      image: {{ include "epi.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy | quote }}
      {{- if $c.containerSecurityContext.enabled }}
      securityContext:
        {{- include "epi.securityContext" (dict "root" $root "context" $c.containerSecurityContext) | nindent 8 }}
      {{- end }}
      {{- with $c.command }}
      command:
        {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 8 }}
      {{- end }}
      args:
        {{- include "epi.args" . | nindent 8 }}
      {{- $env := list -}}
      {{- if has $c.key (list "ruler" "server") -}}
      {{- $env = append $env (dict "name" "POD_NAME" "valueFrom" (dict "fieldRef" (dict "fieldPath" "metadata.name"))) -}}
      {{- end -}}
      {{- $env = concat $env (include "epi.tpl" (dict "v" $c.extraEnvVars "root" $root) | fromYamlArray) }}
      {{- with $env }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if or $c.extraEnvVarsCM $c.extraEnvVarsSecret }}
      envFrom:
        {{- with $c.extraEnvVarsCM }}
        - configMapRef:
            name: {{ tpl . $root | quote }}
        {{- end }}
        {{- with $c.extraEnvVarsSecret }}
        - secretRef:
            name: {{ tpl . $root | quote }}
        {{- end }}
      {{- end }}
      ports:
        {{- range $name, $port := $c.containerPorts }}
        - name: {{ $name }}
          containerPort: {{ int $port }}
          protocol: TCP
        {{- end }}
      {{- include "epi.probe" (dict "root" $root "name" "startupProbe" "probe" $c.startupProbe "custom" $c.customStartupProbe "path" "/-/healthy") | indent 6 }}
      {{- include "epi.probe" (dict "root" $root "name" "readinessProbe" "probe" $c.readinessProbe "custom" $c.customReadinessProbe "path" "/-/ready") | indent 6 }}
      {{- include "epi.probe" (dict "root" $root "name" "livenessProbe" "probe" $c.livenessProbe "custom" $c.customLivenessProbe "path" "/-/healthy") | indent 6 }}
      {{- if $c.lifecycleHooks }}
      lifecycle:
        {{- include "epi.tpl" (dict "v" $c.lifecycleHooks "root" $root) | nindent 8 }}
      {{- else if and $c.preStopSleepSeconds (ne $c.kind "CronJob") (semverCompare ">=1.30.0-0" (include "epi.kubeVersion" $root)) }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ int $c.preStopSleepSeconds }}
      {{- end }}
      {{- with $c.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- else }}
      {{- if ne $c.resourcesPreset "none" }}
      resources:
        {{- include "epi.resources" $c.resourcesPreset | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- $mounts := include "epi.mounts" . | fromYamlArray -}}
      {{- $mounts = concat $mounts (include "epi.tpl" (dict "v" $c.extraVolumeMounts "root" $root) | fromYamlArray) }}
      {{- with $mounts }}
      volumeMounts:
        {{- toYaml . | nindent 8 }}
      {{- end }}
  {{- $volumes := include "epi.volumes" . | fromYamlArray -}}
  {{- $volumes = concat $volumes (include "epi.tpl" (dict "v" $c.extraVolumes "root" $root) | fromYamlArray) }}
  {{- with $volumes }}
  volumes:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* A probe, or nothing. A port that asks for passwords is only knocked at. A start is over when the process serves: what takes
     long then, such as replaying a log or waiting for a bucket, is for the readiness probe and no reason to kill it. */}}
{{- define "epi.probe" -}}
{{- if .custom }}
{{ .name }}:
  {{- include "epi.tpl" (dict "v" .custom "root" .root) | nindent 2 }}
{{- else if .probe.enabled }}
{{ .name }}:
  {{- omit .probe "enabled" | toYaml | nindent 2 }}
  {{- if .root.Values.auth.basicAuthUsers }}
  tcpSocket:
    port: http
  {{- else }}
  httpGet:
    path: {{ .path }}
    port: http
    scheme: {{ ternary "HTTPS" "HTTP" .root.Values.https.enabled }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "epi.securityContext" -}}
{{- $context := omit .context "enabled" -}}
{{- $adapt := .root.Values.global.compatibility.openshift.adaptSecurityContext -}}
{{- if or (eq $adapt "force") (and (eq $adapt "auto") (.root.Capabilities.APIVersions.Has "security.openshift.io/v1")) -}}
{{- $context = omit $context "fsGroup" "runAsUser" "runAsGroup" -}}
{{- end -}}
{{- if not $context.seLinuxOptions -}}{{- $context = omit $context "seLinuxOptions" -}}{{- end -}}
{{- if $context.privileged -}}{{- $context = omit $context "capabilities" -}}{{- end -}}
{{- range $empty := list "sysctls" "supplementalGroups" -}}
{{- if not (get $context $empty) -}}{{- $context = omit $context $empty -}}{{- end -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{/* Sizes by name: cpu and memory asked for, and half as much again at most. */}}
{{- define "epi.resources" -}}
{{- $sizes := dict "nano" (list "100m" "128Mi" "150m" "192Mi") "micro" (list "250m" "256Mi" "375m" "384Mi") "small" (list "500m" "512Mi" "750m" "768Mi") "medium" (list "500m" "1024Mi" "750m" "1536Mi") "large" (list "1.0" "2048Mi" "1.5" "3072Mi") "xlarge" (list "1.0" "3072Mi" "3.0" "6144Mi") "2xlarge" (list "1.0" "3072Mi" "6.0" "12288Mi") -}}
{{- $size := get $sizes . -}}
requests:
  cpu: {{ index $size 0 | quote }}
  memory: {{ index $size 1 }}
  ephemeral-storage: 50Mi
limits:
  cpu: {{ index $size 2 | quote }}
  memory: {{ index $size 3 }}
  ephemeral-storage: 2Gi
{{- end -}}

{{- define "epi.affinity" -}}
{{- $root := .root -}}{{- $c := .c -}}
{{- if $c.affinity -}}
{{- include "epi.tpl" (dict "v" $c.affinity "root" $root) -}}
{{- else -}}
{{- $term := dict "labelSelector" (dict "matchLabels" (include "epi.selector" (dict "root" $root "component" $c.component "extra" (list $c.podLabels)) | fromYaml)) "topologyKey" (default "kubernetes.io/hostname" $c.podAntiAffinityPresetTopologyKey) -}}
{{- range $name, $preset := dict "podAffinity" $c.podAffinityPreset "podAntiAffinity" $c.podAntiAffinityPreset -}}
{{- if eq $preset "soft" }}
{{ $name }}:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 1
      podAffinityTerm:
        {{- toYaml $term | nindent 8 }}
{{- else if eq $preset "hard" }}
{{ $name }}:
  requiredDuringSchedulingIgnoredDuringExecution:
    - {{- toYaml $term | nindent 6 }}
{{- end }}
{{- end }}
{{- with $c.nodeAffinityPreset }}
{{- $match := dict "matchExpressions" (list (dict "key" .key "operator" "In" "values" .values)) }}
{{- if eq .type "soft" }}
nodeAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 1
      preference:
        {{- toYaml $match | nindent 8 }}
{{- else if eq .type "hard" }}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - {{- toYaml $match | nindent 8 }}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "epi.spread" -}}
{{- $root := .root -}}{{- $c := .c -}}
{{- if $c.topologySpreadConstraints -}}
{{- include "epi.tpl" (dict "v" $c.topologySpreadConstraints "root" $root) -}}
{{- else -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "epi.selector" (dict "root" $root "component" $c.component "extra" (list $c.podLabels)) | nindent 6 }}
  {{- if eq $c.kind "Deployment" }}
  matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end -}}
{{- end -}}
