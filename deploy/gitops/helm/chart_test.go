package helm_test

import (
	"io"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/kube/fake"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
)

// everynodeChart returns the chart, and a configuration of Helm that keeps releases in memory and sends nothing.
func everynodeChart(t *testing.T) (*chart.Chart, *action.Configuration) {
	t.Helper()
	loaded, err := loader.Load("../../helm/everynode-controller")
	if err != nil {
		t.Fatal(err)
	}
	config := action.NewConfiguration()
	config.Releases = storage.Init(driver.NewMemory())
	config.KubeClient = &fake.PrintingKubeClient{Out: io.Discard}
	return loaded, config
}
