package audit

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

// Needs leaves out what is optional everywhere, what no container mounts, and what every namespace has.
func TestNeeds(t *testing.T) {
	const manifest = `
metadata: {name: agent, namespace: logging}
spec:
  template:
    spec:
      volumes:
      - {name: config, configMap: {name: mounted}}
      - {name: secret, secret: {secretName: mounted}}
      - {name: not-mounted, configMap: {name: not-mounted}}
      - {name: may-lack, configMap: {name: optional, optional: true}}
      - name: all
        projected:
          sources: [{configMap: {name: kube-root-ca.crt}}, {configMap: {name: projected}}, {secret: {name: projected}}, {secret: {name: optional, optional: true}}]
      initContainers:
      - name: first
        envFrom: [{configMapRef: {name: whole}}, {secretRef: {name: whole, optional: false}}, {secretRef: {name: optional, optional: true}}]
      containers:
      - name: main
        volumeMounts: [{name: config, mountPath: /a}, {name: secret, mountPath: /b}, {name: may-lack, mountPath: /c}, {name: all, mountPath: /d}]
        env:
        - {name: A, valueFrom: {configMapKeyRef: {name: key, key: a, optional: true}}}
        - {name: B, valueFrom: {configMapKeyRef: {name: key, key: b}}}
        - {name: C, valueFrom: {secretKeyRef: {name: key, key: c}}}
        - {name: D, valueFrom: {secretKeyRef: {name: optional, key: d, optional: true}}}`
	var ds appsv1.DaemonSet
	if err := yaml.UnmarshalStrict([]byte(manifest), &ds); err != nil {
		t.Fatal(err)
	}
	const want = "[{ConfigMap logging key} {ConfigMap logging mounted} {ConfigMap logging projected} {ConfigMap logging whole} " +
		"{Secret logging key} {Secret logging mounted} {Secret logging projected} {Secret logging whole}]"
	if got := fmt.Sprint(Needs(&ds)); got != want {
		t.Errorf("it needs %s, want %s", got, want)
	}
}
