package localcluster

import (
	"path/filepath"
)

// AgentName is the child of a node that people need not name.
const AgentName = "agent"

// LogFile is the log of one process of the cluster.
type LogFile struct {
	// Of is what people call the process: "server", "simulator", "registry", a node, or a node
	// and one of its children, as "node-1 kubelet".
	Of, Path string
}

// Logs are the logs that there are, or could be.
func (c *Cluster) Logs() []LogFile {
	all := []LogFile{{"server", c.ServerLog()}, {"simulator", c.Simulator().Log()}, {"registry", c.Registry().Log()}}
	for _, n := range c.Nodes {
		all = append(all, LogFile{n.Name, filepath.Join(c.NodeDir(n.Name), AgentName+".log")})
		for _, child := range []string{"containerd", "kubelet", "kube-proxy"} {
			all = append(all, LogFile{n.Name + " " + child, filepath.Join(c.NodeDir(n.Name), child+".log")})
		}
	}
	return all
}
