package testbed

import (
	"path/filepath"
	"strconv"
)

// Controller is the controller that creates the pods of DaemonSets: Kubernetes' own, or the engine.
type Controller struct {
	// Role is the role of Kubernetes' own; "" means the engine's program.
	Role    string
	Program string // the engine's
	Syncs   int    // of Kubernetes' controller
	QPS     int    // its client limit; 0: the defaults, also of the syncs
}

// StartController starts the controller, as a user of that name.
func (c *Cluster) StartController(user string, how Controller) (*Child, error) {
	config, err := c.Keys.Kubeconfig(c.Dir, c.URL, user)
	if err != nil {
		return nil, err
	}
	if how.Role == "" {
		// Two may run side by side and would need the same port. No other controller runs that it would have to look
		// for.
		return Start("everynode-"+user, c.Dir, nil, how.Program, "--kubeconfig="+config, "--metrics-bind-address=0", "--allow-other-controller")
	}
	args := []string{
		"--kubeconfig=" + config, "--controllers=daemonset-controller", "--secure-port=0",
		"--flex-volume-plugin-dir=" + filepath.Join(c.Dir, "volume-plugins"), // otherwise it creates one on the host
	}
	if how.QPS > 0 {
		// Without this feature gate, which is off by default, a successor always has to wait until its predecessor's
		// lease expires.
		args = append(args, limits(how.QPS)...)
		args = append(args, "--concurrent-daemonset-syncs="+strconv.Itoa(how.Syncs),
			"--feature-gates=ControllerManagerReleaseLeaderElectionLockOnExit=true")
	}
	return StartRole(how.Role, how.Role+"-"+user, c.Dir, nil, args...)
}

// StartScheduler starts Kubernetes' scheduler. If qps is 0 it has its default client limits.
func (c *Cluster) StartScheduler(qps int) (*Child, error) {
	config, err := c.Keys.Kubeconfig(c.Dir, c.URL, UserScheduler)
	if err != nil {
		return nil, err
	}
	args := []string{"--kubeconfig=" + config, "--secure-port=0"}
	if qps > 0 {
		args = append(args, limits(qps)...)
	}
	return StartRole(RoleScheduler, RoleScheduler, c.Dir, nil, args...)
}

func limits(qps int) []string {
	return []string{"--kube-api-qps=" + strconv.Itoa(qps), "--kube-api-burst=" + strconv.Itoa(qps)}
}
