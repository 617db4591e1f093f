package cli

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// FuzzKubeconfig checks that a user's file is either refused, or gets our context and keeps
// everything else. When our context is removed, everything else stays as well.
func FuzzKubeconfig(f *testing.F) {
	for _, seed := range []string{
		"", "\n# mine\n", theirs, "clusters: null\ncontexts: []\n", "clusters: {a: b}\n",
		"x: &x\n- {name: a, cluster: {server: https://a.example}}\nclusters: *x\n",
		theirs + "---\nkind: Config\n", "clusters:\n- name: everynode\n  cluster: {server: https://a.example}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ours := kubeContext{name: "everynode", user: mapping("client-key-data", text("a2V5")),
			cluster: mapping("server", text("https://127.0.0.1:6443"), "certificate-authority-data", text("b3Vycw=="))}
		before, err := clientcmd.Load(data)
		if err != nil {
			return // kubectl does not read it either
		}
		with, err := ours.addTo(data)
		if err != nil {
			return
		}
		after, err := clientcmd.Load(with)
		if err != nil || after.CurrentContext != "everynode" || after.Contexts["everynode"] == nil {
			t.Fatalf("%v, of\n%s", err, with)
		}
		wantOthers(t, before, after)
		without, changed, err := ours.dropFrom(with)
		if err != nil || !changed {
			t.Fatalf("it stays: %v, of\n%s", err, with)
		}
		if after, err = clientcmd.Load(without); err != nil || after.Contexts["everynode"] != nil || after.CurrentContext != "" {
			t.Fatalf("%v, of\n%s", err, without)
		}
		wantOthers(t, before, after)
	})
}

// wantOthers compares everything that does not have our name.
func wantOthers(t *testing.T, want, got *clientcmdapi.Config) {
	t.Helper()
	for _, c := range []*clientcmdapi.Config{want, got} {
		delete(c.Clusters, "everynode")
		delete(c.AuthInfos, "everynode")
		delete(c.Contexts, "everynode")
	}
	for what, same := range map[string]bool{
		listClusters: equality.Semantic.DeepEqual(want.Clusters, got.Clusters),
		listUsers:    equality.Semantic.DeepEqual(want.AuthInfos, got.AuthInfos),
		listContexts: equality.Semantic.DeepEqual(want.Contexts, got.Contexts),
	} {
		if !same {
			t.Errorf("other %s have changed: %+v, were %+v", what, got, want)
		}
	}
}
