{{- define "everynode-controller.labels" -}}
app.kubernetes.io/name: everynode-controller
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* A request of the kubelet, which is on the same network. */ -}}
{{- define "everynode-controller.probe" -}}
httpGet:
  host: 127.0.0.1
  path: {{ .path }}
  port: {{ .metrics.port }}
  {{- if .metrics.tlsSecret }}
  scheme: HTTPS
  {{- end }}
{{- end }}
