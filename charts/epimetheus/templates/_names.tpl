{{/* Names and labels. */}}

{{- define "epi.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The release's name, so that `helm install thanos` gives thanos-query; with nameOverride as other charts do it. */}}
{{- define "epi.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if or (not .Values.nameOverride) (contains .Values.nameOverride .Release.Name) -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* (list $ "query-frontend") */}}
{{- define "epi.fullnameOf" -}}
{{- printf "%s-%s" (include "epi.fullname" (index . 0)) (index . 1) | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "epi.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* A value that may hold templates: (dict "v" value "root" $) */}}
{{- define "epi.tpl" -}}
{{- $text := .v -}}
{{- if not (kindIs "string" .v) -}}{{- $text = toYaml .v -}}{{- end -}}
{{- if contains "{{" $text -}}{{- tpl $text .root -}}{{- else -}}{{- $text -}}{{- end -}}
{{- end -}}

{{/* (dict "root" $ "component" "query" "extra" (list map map)): component may be empty */}}
{{- define "epi.labels" -}}
{{- $all := dict -}}
{{- range append (default (list) .extra) .root.Values.commonLabels -}}
{{- with . -}}{{- $all = merge $all (include "epi.tpl" (dict "v" . "root" $.root) | fromYaml) -}}{{- end -}}
{{- end -}}
{{- $own := dict "app.kubernetes.io/name" (include "epi.name" .root) "app.kubernetes.io/instance" .root.Release.Name "app.kubernetes.io/managed-by" .root.Release.Service "app.kubernetes.io/version" .root.Chart.AppVersion "helm.sh/chart" (include "epi.chart" .root) -}}
{{- $all = merge $all $own -}}
{{- with .component -}}{{- $_ := set $all "app.kubernetes.io/component" . -}}{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* Labels that never change: (dict "root" $ "component" "query" "extra" (list podLabels)) */}}
{{- define "epi.selector" -}}
{{- $labels := include "epi.labels" . | fromYaml -}}
{{- pick $labels "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" | toYaml -}}
{{- end -}}

{{/* (dict "root" $ "extra" (list map map)): nothing, or `annotations:` with them */}}
{{- define "epi.annotations" -}}
{{- $all := dict -}}
{{- range append (default (list) .extra) .root.Values.commonAnnotations -}}
{{- with . -}}{{- $all = merge $all (include "epi.tpl" (dict "v" . "root" $.root) | fromYaml) -}}{{- end -}}
{{- end -}}
{{- with $all }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* name, namespace, labels, annotations: (dict "root" $ "name" n "component" c "labels" (list) "annotations" (list) "namespace" "") */}}
{{- define "epi.metadata" -}}
name: {{ .name | quote }}
namespace: {{ default .root.Release.Namespace .namespace | quote }}
labels:
  {{- include "epi.labels" (dict "root" .root "component" .component "extra" .labels) | nindent 2 }}
{{- include "epi.annotations" (dict "root" .root "extra" .annotations) }}
{{- end -}}

{{- define "epi.image" -}}
{{- $registry := default .Values.image.registry .Values.global.imageRegistry -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag | toString -}}
{{- $end := ternary (printf "@%s" .Values.image.digest) (printf ":%s" $tag) (not (empty .Values.image.digest)) -}}
{{- ternary (printf "%s/%s%s" $registry .Values.image.repository $end) (printf "%s%s" .Values.image.repository $end) (not (empty $registry)) -}}
{{- end -}}

{{/* An image of a companion, behind global.imageRegistry if there is one: (dict "root" $ "image" "docker.io/x/y:z") */}}
{{- define "epi.otherImage" -}}
{{- $registry := .root.Values.global.imageRegistry -}}
{{- if $registry -}}
{{- printf "%s/%s" $registry (rest (splitList "/" .image) | join "/") -}}
{{- else -}}
{{- .image -}}
{{- end -}}
{{- end -}}

{{- define "epi.pullSecrets" -}}
{{- $names := list -}}
{{- range concat .Values.global.imagePullSecrets .Values.image.pullSecrets -}}
{{- $names = append $names (ternary . (get (ternary (dict) . (kindIs "string" .)) "name") (kindIs "string" .)) -}}
{{- end -}}
{{- range uniq $names }}
- name: {{ tpl . $ | quote }}
{{- end -}}
{{- end -}}

{{/* The cluster's version, or the one that kubeVersion claims. */}}
{{- define "epi.kubeVersion" -}}
{{- default .Capabilities.KubeVersion.Version .Values.kubeVersion -}}
{{- end -}}

{{/* Names under which values of other charts ask for ours. */}}
{{- define "common.names.fullname" -}}{{- include "epi.fullname" . -}}{{- end -}}
{{- define "common.names.name" -}}{{- include "epi.name" . -}}{{- end -}}
{{- define "thanos.minio.fullname" -}}{{- include "epi.fullnameOf" (list . "minio") -}}{{- end -}}
{{- define "thanos.query.fullname" -}}{{- include "epi.fullnameOf" (list . "query") -}}{{- end -}}
{{- define "thanos.query-frontend.fullname" -}}{{- include "epi.fullnameOf" (list . "query-frontend") -}}{{- end -}}
{{- define "thanos.storegateway.fullname" -}}{{- include "epi.fullnameOf" (list . "storegateway") -}}{{- end -}}
{{- define "thanos.ruler.fullname" -}}{{- include "epi.fullnameOf" (list . "ruler") -}}{{- end -}}
{{- define "thanos.compactor.fullname" -}}{{- include "epi.fullnameOf" (list . "compactor") -}}{{- end -}}
{{- define "thanos.bucketweb.fullname" -}}{{- include "epi.fullnameOf" (list . "bucketweb") -}}{{- end -}}
