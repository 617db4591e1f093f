package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"everynode/internal/balancer"
	"everynode/internal/cli/console"
	"everynode/internal/controlplane"
	"everynode/internal/datadir"
)

// choose records what was chosen for the cluster, and is kept. A control plane that
// runs keeps what it was started with.
func (m *machine) choose(o upOptions) error {
	return errors.Join(m.chooseAddons(o.addons), m.chooseEngine(o), m.chooseNetwork(o), m.chooseAudit(o), m.chooseHostPaths(o.hostPaths), m.choosePublished(o), m.chooseRegistries(o.registries), m.chooseKubelet(o.kubelet))
}

// chooseEngine records whether the control plane has the DaemonSet engine inside.
func (m *machine) chooseEngine(o upOptions) error {
	if !o.engineGiven || o.engine == !m.NoDaemonSets {
		return nil
	}
	if _, runs := datadir.Running(m.serverLock()); runs {
		return fmt.Errorf("the control plane runs with --%s=%v: stop it with `everynode down` to change that", daemonSetFlag, !m.NoDaemonSets)
	}
	m.NoDaemonSets = !o.engine
	return nil
}

// chooseAudit records whether the control plane keeps an audit log.
func (m *machine) chooseAudit(o upOptions) error {
	if !o.auditGiven || o.audit == m.Audit {
		return nil
	}
	if _, runs := datadir.Running(m.serverLock()); runs {
		return fmt.Errorf("the control plane runs with --%s=%v: stop it with `everynode down` to change that", auditFlag, m.Audit)
	}
	m.Audit = o.audit
	return nil
}

// choosePublished records the ports that lead to services.
func (m *machine) choosePublished(o upOptions) error {
	if !o.publishing || slices.Equal(o.publish, m.Publish) {
		return nil
	}
	if m.Loopback {
		return fmt.Errorf("--%s: a cluster of simulated nodes alone has no services that answer", publishFlag)
	}
	if _, runs := datadir.Running(m.serverLock()); runs {
		return fmt.Errorf("the control plane runs with --%s=%s: stop it with `everynode down` to change that", publishFlag, strings.Join(m.Publish, ","))
	}
	m.Publish = o.publish
	return nil
}

func checkPublished(publish []string) error {
	for _, p := range publish {
		if _, err := balancer.ParsePublication(p); err != nil {
			return console.Usage(fmt.Errorf("--%s: %w", publishFlag, err))
		}
	}
	return nil
}

// chooseHostPaths records what becomes of pods with hostPath volumes.
func (m *machine) chooseHostPaths(policy string) error {
	if policy == "" || policy == m.hostPaths() {
		return nil
	}
	if _, runs := datadir.Running(m.serverLock()); runs {
		return fmt.Errorf("the control plane runs with --%s=%s: stop it with `everynode down` to change that", hostPathFlag, m.hostPaths())
	}
	m.HostPathPolicy = policy
	return nil
}

func checkHostPaths(policy string) error {
	if err := controlplane.CheckHostPathPolicy(policy); err != nil {
		return console.Usage(fmt.Errorf("--%s: %w", hostPathFlag, err))
	}
	return nil
}
