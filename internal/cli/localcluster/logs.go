package localcluster

import (
	"path/filepath"
)

// AgentName is the process of a node that users need not name.
const AgentName = "agent"

// LogFile is the log of one process of the cluster.
type LogFile struct {
	// Of is what users call the process: "server", "simulator", "registry", a node, or a node
	// and one of its children, such as "node-1 kubelet".
	Of, Path string
}

// Logs are all logs that the cluster's processes may write. Some may not exist.
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
