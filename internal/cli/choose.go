package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"everynode/internal/balancer"
	"everynode/internal/controlplane"
	"everynode/internal/datadir"
)

// choose records whether the control plane has the DaemonSet engine inside, and
// whether it makes a DNS. One that runs keeps what it was started with.
func (m *machine) choose(o upOptions) error {
	for _, c := range []struct {
		flag    string
		without *bool
		wanted  bool
		given   bool
	}{
		{daemonSetFlag, &m.NoDaemonSets, o.engine, o.engineGiven},
		{dnsFlag, &m.NoDNS, o.dns, o.dnsGiven},
	} {
		if !c.given || c.wanted == !*c.without {
			continue
		}
		if _, runs := datadir.Running(m.serverLock()); runs {
			return fmt.Errorf("the control plane runs with --%s=%v: stop it with `everynode down` to change that", c.flag, !*c.without)
		}
		*c.without = !c.wanted
	}
	return errors.Join(m.chooseHostPaths(o.hostPaths), m.choosePublished(o), m.chooseRegistries(o.registries))
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

func checkPublished(o upOptions) error {
	for _, p := range o.publish {
		if _, err := balancer.ParsePublication(p); err != nil {
			return usageError{fmt.Errorf("--%s: %w", publishFlag, err)}
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
		return usageError{fmt.Errorf("--%s: %w", hostPathFlag, err)}
	}
	return nil
}
