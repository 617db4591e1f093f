package why

import (
	"context"
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/kubernetes"

	"everynode/internal/view"
)

// noticeTime is how long a controller may take to notice a change before that is reported.
const noticeTime = 10 * time.Second

// askController finds out whether a controller does the work. Only what a controller has written is certain: the
// generation of the DaemonSet that it has observed last, and its lease. So a controller that is merely slow is
// not reported. beside means that everynode's engine assists another controller.
func askController(ctx context.Context, client kubernetes.Interface, q Question, ds *daemonSet, of *Set, rows []Row, beside bool, now time.Time) error {
	unseen := ds.Status.ObservedGeneration < ds.Generation
	undone := q.EngineOff && slices.ContainsFunc(rows, func(r Row) bool { return r.Refused == "" && r.writes() })
	if !unseen && !undone {
		return nil
	}
	written, known := view.SpecWritten(ds)
	if unseen && known && now.Sub(written) < noticeTime {
		return nil
	}
	lease, err := ReadLease(ctx, client, now)
	if err != nil {
		return err
	}
	if !unseen && lease.Held {
		return nil
	}
	if unseen {
		of.Controller = fmt.Sprintf("No DaemonSet controller has observed generation %d", ds.Generation)
		if known {
			of.Controller += ", which is " + duration.HumanDuration(now.Sub(written)) + " old"
		}
		of.Controller += ". "
	}
	switch {
	case beside:
		of.Controller += "That is for the DaemonSet controller of the cluster, beside which everynode works: is kube-controller-manager running?"
	case q.EngineOff:
		of.Controller += "The control plane runs without the engine, and "
		of.Command = "everynode down; everynode up --daemonset-controller=true"
		of.Controller += lease.String() + "."
	case lease.Hidden:
		of.Controller += "Perhaps none is running: " + lease.String() + "."
	default:
		of.Controller += "No controller is running, or it cannot write: " + lease.String() + "."
	}
	return nil
}

// The lease with which engines outside the control plane elect their leader by default.
const (
	leaseNamespace = metav1.NamespaceSystem
	leaseName      = "everynode-controller"
)

// Lease is the state of the lease of engines outside the control plane.
type Lease struct {
	// Holder is who has, or had, the lease; empty when nobody has.
	Holder string `json:"holder,omitempty"`
	// Held means that the lease has not expired.
	Held bool `json:"held"`
	// Hidden means that the reader may not see the lease: nothing else is known.
	Hidden bool `json:"hidden,omitempty"`
	// Renewed is how long ago it was renewed; zero when it never was.
	Renewed time.Duration `json:"-"`
}

// ReadLease reads the lease. If the lease does not exist, it returns a Lease without a holder; if it may not be
// read, one that is hidden.
func ReadLease(ctx context.Context, client kubernetes.Interface, now time.Time) (Lease, error) {
	l, err := client.CoordinationV1().Leases(leaseNamespace).Get(ctx, leaseName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return Lease{}, nil
	case apierrors.IsForbidden(err):
		return Lease{Hidden: true}, nil
	case err != nil:
		return Lease{}, fmt.Errorf("read the lease %s/%s: %w", leaseNamespace, leaseName, err)
	}
	return leaseOf(l, now), nil
}

func leaseOf(l *coordinationv1.Lease, now time.Time) Lease {
	s := &l.Spec
	if s.HolderIdentity == nil || *s.HolderIdentity == "" || s.RenewTime == nil || s.LeaseDurationSeconds == nil {
		return Lease{}
	}
	ago := now.Sub(s.RenewTime.Time)
	return Lease{Holder: *s.HolderIdentity, Renewed: ago, Held: ago < time.Duration(*s.LeaseDurationSeconds)*time.Second}
}

// String says which engine works, as far as the lease shows.
func (l Lease) String() string {
	switch {
	case l.Held:
		return fmt.Sprintf("everynode-controller %s holds the lease %s/%s", l.Holder, leaseNamespace, leaseName)
	case l.Holder != "":
		return fmt.Sprintf("everynode-controller %s has not renewed the lease %s/%s for %s", l.Holder, leaseNamespace, leaseName, duration.HumanDuration(l.Renewed))
	case l.Hidden:
		return fmt.Sprintf("you may not read the lease %s/%s, which names the engine that works", leaseNamespace, leaseName)
	default:
		return fmt.Sprintf("nobody holds the lease %s/%s", leaseNamespace, leaseName)
	}
}
