package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// NewCheck returns the command that checks whether an engine works.
func NewCheck(connect Connect) *cobra.Command {
	kubeconfig, timeout := "", time.Minute
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether a controller is active in this cluster",
		Long: `Say whether a controller is active in this cluster: whether one holds the lease kube-system/everynode-controller and
renews it. It waits until one does, and exits with 0; after --timeout it exits with 1. It changes nothing.`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := connect(kubeconfig)
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return fmt.Errorf("making a client: %w", err)
			}
			return leads(cmd.Context(), client.CoordinationV1().Leases(metav1.NamespaceSystem), cmd.OutOrStdout(), timeout, time.Second)
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "cluster to ask (default: the one that this runs in)")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long to wait for an active controller")
	return cmd
}

const leaseName = "everynode-controller"

// leads returns once somebody has renewed the lease. It compares no clocks: what counts is that the lease changes.
func leads(ctx context.Context, leases coordinationv1.LeaseInterface, out io.Writer, timeout, every time.Duration) error {
	var before *metav1.MicroTime
	holder, why := "", errors.New("the API server has not answered")
	err := wait.PollUntilContextTimeout(ctx, every, timeout, true, func(ctx context.Context) (bool, error) {
		lease, err := leases.Get(ctx, leaseName, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			why = errors.New("nobody has ever held it")
			return false, nil
		case err != nil && (ctx.Err() != nil || outOfTime(ctx, every)): // an earlier finding says more
			return false, nil
		case err != nil:
			why = err
			return false, nil
		case lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" || lease.Spec.RenewTime == nil:
			why, before = errors.New("nobody holds it"), nil
			return false, nil
		}
		holder = *lease.Spec.HolderIdentity
		why = fmt.Errorf("%s holds it but does not renew it", holder)
		renewed := before != nil && !before.Equal(lease.Spec.RenewTime)
		before = lease.Spec.RenewTime
		return renewed, nil
	})
	if err != nil {
		return fmt.Errorf("no controller is active, according to the lease kube-system/%s: %w; see the logs of its pods (kubectl logs -n NAMESPACE deployment/everynode-controller)", leaseName, why)
	}
	_, err = fmt.Fprintf(out, "%s works.\n", holder)
	return err
}

// outOfTime reports whether the deadline is so close that it counts as passed. A client whose request would not
// get its turn before the deadline does not wait for it, and its error says nothing about the server.
func outOfTime(ctx context.Context, every time.Duration) bool {
	deadline, is := ctx.Deadline()
	return is && time.Until(deadline) < every
}
