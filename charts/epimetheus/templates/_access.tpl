{{/* Who the pods are, what they may do, and who may talk to them: (dict "root" $ "c" component) */}}

{{- define "epi.serviceAccount" -}}
{{- $c := .c -}}
{{- if $c.serviceAccount.create }}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "epi.metadata" (dict "root" .root "name" $c.serviceAccountName "component" $c.component "annotations" (list $c.serviceAccount.annotations)) | nindent 2 }}
automountServiceAccountToken: {{ $c.serviceAccount.automountServiceAccountToken }}
{{- end -}}
{{- end -}}

{{/* Rules that the user gives: a Role of the component's own. */}}
{{- define "epi.role" -}}
{{- $c := .c -}}
{{- if and $c.rbac.create $c.rbac.rules }}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "epi.metadata" (dict "root" .root "name" $c.fullname "component" $c.component) | nindent 2 }}
rules:
  {{- include "epi.tpl" (dict "v" $c.rbac.rules "root" .root) | nindent 2 }}
---
{{ include "epi.binding" (dict "root" .root "c" $c "name" $c.fullname) }}
{{- end -}}
{{- end -}}

{{/* Gives a Role to the component's account: (dict "root" $ "c" component "kind" "Role" "name" n "namespace" "") */}}
{{- define "epi.binding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "epi.metadata" (dict "root" .root "name" .name "component" .c.component "namespace" .namespace) | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ .c.serviceAccountName | quote }}
    namespace: {{ .root.Release.Namespace | quote }}
{{- end -}}

{{- define "epi.networkPolicy" -}}
{{- $root := .root -}}{{- $c := .c -}}{{- $np := $c.networkPolicy -}}
{{- $extra := list $c.podLabels -}}
{{- if $np.enabled }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "epi.metadata" (dict "root" $root "name" $c.fullname "component" $c.component) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "epi.selector" (dict "root" $root "component" $c.component "extra" $extra) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- if $np.allowExternalEgress }}
  egress:
    - {}
  {{- else }}
  egress:
    - ports:
        - {port: 53, protocol: UDP}
        - {port: 53, protocol: TCP}
    {{- range $peer := get (include "epi.talksTo" . | fromYaml) $c.key }}
    {{- $p := include "epi.component" (list $root $peer) | fromJson }}
    {{- if $p.enabled }}
    - ports:
        {{- include "epi.portsOf" $p | nindent 8 }}
      to:
        - podSelector:
            matchLabels:
              {{- include "epi.selector" (dict "root" $root "component" $p.component "extra" (list $p.podLabels)) | nindent 14 }}
    {{- end }}
    {{- end }}
    {{- if and (include "epi.demo" (list $root "s3")) (has $c.key (list "server" "storegateway" "ruler" "compactor" "bucketweb")) }}
    - ports:
        - port: {{ int $root.Values.minio.service.ports.api }}
      to:
        - podSelector:
            matchLabels:
              {{- include "epi.selector" (dict "root" $root "component" "minio") | nindent 14 }}
    {{- end }}
    {{- if and (include "epi.demo" (list $root "alertmanager")) (has $c.key (list "server" "ruler")) }}
    - ports:
        - port: 9093
      to:
        - podSelector:
            matchLabels:
              {{- include "epi.selector" (dict "root" $root "component" "alertmanager") | nindent 14 }}
    {{- end }}
    {{- if and (eq $c.key "server") $c.kubernetes.enabled (not $c.config) }}
    # What is scraped may be anywhere in the cluster, on any port.
    - to:
        - namespaceSelector: {}
        - ipBlock: {cidr: 0.0.0.0/0}
        - ipBlock: {cidr: "::/0"}
    {{- end }}
    {{- with $np.extraEgress }}
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
    {{- end }}
  {{- end }}
  ingress:
    - ports:
        {{- include "epi.portsOf" $c | nindent 8 }}
      {{- if not $np.allowExternal }}
      from:
        - podSelector:
            matchLabels:
              {{- include "epi.selector" (dict "root" $root) | nindent 14 }}
        - podSelector:
            matchLabels:
              {{ $c.fullname }}-client: "true"
        {{- if $np.ingressNSMatchLabels }}
        - namespaceSelector:
            matchLabels:
              {{- toYaml $np.ingressNSMatchLabels | nindent 14 }}
          {{- with $np.ingressNSPodMatchLabels }}
          podSelector:
            matchLabels:
              {{- toYaml . | nindent 14 }}
          {{- end }}
        {{- end }}
      {{- end }}
    {{- with $np.extraIngress }}
    {{- include "epi.tpl" (dict "v" . "root" $root) | nindent 4 }}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* Whom each component calls. A policy sees the pods' ports, not those of Services. */}}
{{- define "epi.talksTo" -}}
query: [server, storegateway, ruler]
queryFrontend: [query]
ruler: [query, queryFrontend]
server: [server, query, queryFrontend, storegateway, ruler, compactor, bucketweb]
storegateway: []
compactor: []
bucketweb: []
{{- end -}}

{{- define "epi.portsOf" -}}
{{- $seen := list -}}
{{- range $name, $port := .containerPorts -}}{{- $seen = append $seen (int $port) -}}{{- end -}}
{{- range uniq $seen }}
- port: {{ . }}
{{- end }}
{{- end -}}
