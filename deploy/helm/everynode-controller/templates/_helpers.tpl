{{- define "everynode-controller.labels" -}}
app.kubernetes.io/name: everynode-controller
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Where the API server is. */ -}}
{{- define "everynode-controller.apiServer" -}}
{{- if .Values.apiServer.host -}}
env:
  - name: KUBERNETES_SERVICE_HOST
    value: {{ .Values.apiServer.host | quote }}
  - name: KUBERNETES_SERVICE_PORT
    value: {{ .Values.apiServer.port | quote }}
{{- else -}}
envFrom:
  - configMapRef:
      name: kubernetes-services-endpoint
      optional: true
{{- end }}
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

{{- /* "yes" if only nodes of the control plane may run it. As many as there are copies: two never share a node. */ -}}
{{- define "everynode-controller.controlPlaneOnly" -}}
{{- $there := 0 }}
{{- if eq .Values.controlPlane "auto" }}
{{- range (lookup "v1" "Node" "" "").items }}
{{- if hasKey (.metadata.labels | default dict) "node-role.kubernetes.io/control-plane" }}
{{- $there = add1 $there }}
{{- end }}
{{- end }}
{{- end }}
{{- if or (eq .Values.controlPlane "require") (and (gt (int $there) 0) (ge (int $there) (int .Values.replicas))) -}}
yes
{{- end }}
{{- end }}
