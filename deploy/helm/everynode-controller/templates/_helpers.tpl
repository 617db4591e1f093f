{{- define "everynode-controller.labels" -}}
app.kubernetes.io/name: everynode-controller
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /*
"yes" if a release of this chart has made this RolloutPolicy, whatever it was called: one that people, or another chart, have made under
the same name is theirs.
*/ -}}
{{- define "everynode-controller.ours" -}}
{{- if and (eq (dig "metadata" "labels" "app.kubernetes.io/name" "" .) "everynode-controller") (dig "metadata" "annotations" "meta.helm.sh/release-name" "" .) -}}
yes
{{- end }}
{{- end }}

{{- /* The address of the API server. */ -}}
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

{{- /* "yes" if the pods are on the network of their nodes. */ -}}
{{- define "everynode-controller.hostNetwork" -}}
{{- if or (eq (toString .Values.hostNetwork) "true") (and (eq (toString .Values.hostNetwork) "auto") (ne .Values.mode "assist")) -}}
yes
{{- end }}
{{- end }}

{{- /*
A probe of the kubelet. On the network of the node it asks loopback. On that of the pod it asks the address of the pod (Pod Security
forbids to name another), and where nothing is served there, because there is no certificate, a process in the pod asks loopback.
Parameters: path, context.
*/ -}}
{{- define "everynode-controller.probe" -}}
{{- $host := include "everynode-controller.hostNetwork" .context }}
{{- $metrics := .context.Values.metrics }}
{{- if or $host $metrics.tlsSecret -}}
httpGet:
  {{- if $host }}
  host: 127.0.0.1
  {{- end }}
  path: {{ .path }}
  port: {{ $metrics.port }}
  {{- if $metrics.tlsSecret }}
  scheme: HTTPS
  {{- end }}
{{- else -}}
exec:
  command: [/everynode-controller, probe, {{ printf "http://127.0.0.1:%d%s" (int $metrics.port) .path | quote }}]
{{- end }}
{{- end }}

{{- /* "yes" if only nodes of the control plane may run it. There must be as many as replicas, because two never share a node. */ -}}
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

{{- /* What the nodes that may run it have: the image is for Linux. */ -}}
{{- define "everynode-controller.nodeSelector" -}}
{{- toYaml (merge (dict "kubernetes.io/os" "linux") .Values.nodeSelector) }}
{{- end }}

{{- /* The nodes that may run it, or that it prefers. Never virtual nodes, whose taints it tolerates like all others. */ -}}
{{- define "everynode-controller.nodeAffinity" -}}
{{- if include "everynode-controller.controlPlaneOnly" . -}}
requiredDuringSchedulingIgnoredDuringExecution:
  nodeSelectorTerms:
    - matchExpressions:
        - key: node-role.kubernetes.io/control-plane
          operator: Exists
{{- else -}}
requiredDuringSchedulingIgnoredDuringExecution:
  nodeSelectorTerms:
    - matchExpressions:
        - key: type
          operator: NotIn
          values: [virtual-kubelet]
        - key: eks.amazonaws.com/compute-type
          operator: NotIn
          values: [fargate]
preferredDuringSchedulingIgnoredDuringExecution:
  - weight: 100
    preference:
      matchExpressions:
        - key: node-role.kubernetes.io/control-plane
          operator: Exists
{{- end }}
{{- end }}

{{- /* A Job that runs a command of the image once, for Helm, with an account that can only read. Parameters: name, hook, args; optionally weight, completions. */ -}}
{{- define "everynode-controller.job" -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: everynode-controller-{{ .name }}
  namespace: {{ .context.Release.Namespace | quote }}
  labels:
    {{- include "everynode-controller.labels" .context | nindent 4 }}
  annotations:
    helm.sh/hook: {{ .hook }}
    {{- with .weight }}
    helm.sh/hook-weight: {{ . | quote }}
    {{- end }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
    helm.sh/hook-output-log-policy: hook-succeeded,hook-failed
spec:
  {{- if hasKey . "completions" }}
  completions: {{ .completions }}
  {{- end }}
  backoffLimit: 0
  podFailurePolicy:
    rules:
      - action: Ignore # a pod that was drained or preempted has found out nothing: another one asks
        onPodConditions:
          - type: DisruptionTarget
            status: "True"
  activeDeadlineSeconds: 280 # Helm waits for five minutes
  template:
    metadata:
      labels:
        app.kubernetes.io/name: everynode-controller-{{ .name }}
    spec:
      restartPolicy: Never
      serviceAccountName: everynode-controller-reader
      automountServiceAccountToken: true
      {{- with .context.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .context.Values.priorityClassName }}
      priorityClassName: {{ . | quote }}
      {{- end }}
      {{- if include "everynode-controller.hostNetwork" .context }}
      hostNetwork: true
      {{- end }}
      dnsPolicy: Default
      enableServiceLinks: false
      nodeSelector:
        {{- include "everynode-controller.nodeSelector" .context | nindent 8 }}
      affinity:
        nodeAffinity:
          {{- include "everynode-controller.nodeAffinity" .context | nindent 10 }}
      tolerations:
        # Where the controller may run, but not on nodes that are unreachable, drained or short of memory.
        - key: node-role.kubernetes.io/control-plane
          operator: Exists
          effect: NoSchedule
        - key: node-role.kubernetes.io/master # OpenShift
          operator: Exists
          effect: NoSchedule
        - key: node-role.kubernetes.io/etcd # RKE2: nodes with both roles
          operator: Exists
        - key: CriticalAddonsOnly
          operator: Exists
        {{- if include "everynode-controller.hostNetwork" .context }}
        # The node may lack only its pod network, which this does not need.
        - key: node.kubernetes.io/not-ready
          operator: Exists
        - key: node.kubernetes.io/network-unavailable
          operator: Exists
          effect: NoSchedule
        {{- end }}
        {{- with .context.Values.jobTolerations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: {{ .name }}
          image: "{{ .context.Values.image.repository }}:{{ .context.Values.image.tag | default .context.Chart.AppVersion }}"
          imagePullPolicy: {{ .context.Values.image.pullPolicy }}
          args: {{ toJson .args }}
          {{- $api := include "everynode-controller.apiServer" .context | fromYaml }}
          env:
            - name: GOMEMLIMIT # garbage is collected in time
              valueFrom:
                resourceFieldRef:
                  resource: limits.memory
            {{- with $api.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with $api.envFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          resources:
            {{- toYaml .context.Values.jobResources | nindent 12 }}
          terminationMessagePolicy: FallbackToLogsOnError
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
{{- end }}
