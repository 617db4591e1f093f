package local

import (
	"errors"
	"time"

	"github.com/vishvananda/netlink"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
)

// whole repeats a list while the kernel reports that something changed in between,
// because such a list may have holes. Links come and go while nodes start and stop.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	interrupted := func(err error) bool { return errors.Is(err, netlink.ErrDumpInterrupted) }
	err = retry.OnError(wait.Backoff{Steps: 50, Duration: time.Millisecond, Factor: 1.1, Cap: 100 * time.Millisecond}, interrupted, func() error {
		all, err = list()
		return err
	})
	return all, err
}
