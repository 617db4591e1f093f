package local

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"

	"everynode/internal/addons"
	"everynode/internal/atomicfile"
	"everynode/internal/datadir"
)

const (
	// formatVersion is the version of cluster.json that this program writes, and the newest that it reads.
	formatVersion = 1

	stateFile      = "cluster.json"
	defaultAPIPort = 6443
)

// ErrNoCluster is returned for a data directory without a cluster.
var ErrNoCluster = errors.New("no cluster here")

// ErrBroken is returned if a cluster's record cannot be decoded or is not valid.
var ErrBroken = errors.New("broken")

// Cluster is the record of one cluster on this machine, as kept in cluster.json. Methods that change the record
// change it only in memory; Save writes it. Only one process at a time may change it: hold a Lock on a file of the
// data directory around Open ... Save.
type Cluster struct {
	// DataDir is the absolute path of the data directory, without symbolic links.
	DataDir string `json:"-"`
	// InitProgram is the program that runs as the first process of each node.
	InitProgram string `json:"-"`

	// Version is the format version of the file.
	Version int `json:"version"`
	// ID is six hex digits, derived from DataDir. It is part of the name of everything the cluster makes on the host.
	ID string `json:"id"`
	// Subnet is the /24 of the nodes; Gateway is its first address, which the host has on the bridge.
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway"`
	// PodCIDR and ServiceCIDR are the ranges of pods and services; both are free on this machine when chosen.
	PodCIDR     netip.Prefix `json:"podCIDR"`
	ServiceCIDR netip.Prefix `json:"serviceCIDR"`
	// APIPort is the API server's port on Gateway, or on loopback.
	APIPort int `json:"apiPort"`
	// Loopback means that the cluster can have no nodes on this machine: its API server is on 127.0.0.1, and nothing
	// is made on the host, so it does not need root.
	Loopback bool `json:"loopback,omitempty"`
	// Nodes is sorted by Index.
	Nodes []Node `json:"nodes"`
	// NoDaemonSets means that the control plane leaves DaemonSets to a controller outside of it.
	NoDaemonSets bool `json:"noDaemonSets,omitempty"`
	// NoCNI means that the nodes have no pod network until the user installs one.
	NoCNI bool `json:"noCNI,omitempty"`
	// NoKubeProxy means that the nodes run no kube-proxy of their own.
	NoKubeProxy bool `json:"noKubeProxy,omitempty"`
	// Addons maps names of add-ons to whether the cluster has them. Add-ons that are not in it have their default.
	Addons map[string]bool `json:"addons,omitempty"`
	// HostPathPolicy is the control plane's setting for hostPath volumes; empty is its default.
	HostPathPolicy string `json:"hostPathPolicy,omitempty"`
	// Audit means that the control plane keeps an audit log.
	Audit bool `json:"audit,omitempty"`
	// Publish are ports of this machine that lead to services, in the form in which the control plane gets them.
	Publish []string `json:"publish,omitempty"`
	// RegistryPort is the port of the add-on registry, on loopback and on Gateway; 0 until the cluster has had it.
	RegistryPort int `json:"registryPort,omitempty"`
	// CreatedPaths are mount points that Host.Ensure made on the host, in the order of creation.
	CreatedPaths []string `json:"createdPaths,omitempty"`
}

// Options choose what Create would otherwise choose itself. Zero values mean: choose.
type Options struct {
	PodCIDR     netip.Prefix
	ServiceCIDR netip.Prefix
	APIPort     int
	// Loopback is Cluster.Loopback.
	Loopback bool
}

// Open reads the cluster of a data directory. Without one the error is ErrNoCluster.
func Open(dataDir string) (*Cluster, error) {
	dir, err := resolveDir(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("data directory %s: %w", dataDir, ErrNoCluster)
	}
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, stateFile)
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("data directory %s: %w", dir, ErrNoCluster)
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster's record: %w", err)
	}
	c, err := decode(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if want := clusterID(dir); c.ID != want {
		return nil, fmt.Errorf("%s was made under another path (its id is %s, but this path has %s): "+
			"move the data directory back, or, when no cluster runs from the old path, delete %s", file, c.ID, want, file)
	}
	c.DataDir = dir
	return c, nil
}

// Recover replaces Open if the record is lost or broken. The cluster that it returns is good only for removing all of
// it from this machine: the names of what it made here follow from the path.
func Recover(dataDir string) (*Cluster, error) {
	dir, err := resolveDir(dataDir)
	if err != nil {
		return nil, err
	}
	return &Cluster{DataDir: dir, Version: formatVersion, ID: clusterID(dir), Loopback: os.Geteuid() != 0}, nil
}

// Create chooses the address ranges of a new cluster and writes its record. It makes the data directory if it is
// missing (mode 0700), and refuses one that contains files that everynode did not make. It fails if there is a
// cluster already, or if no free range is left on this machine.
func Create(dataDir string, o Options) (*Cluster, error) {
	claimed, err := datadir.Claim(dataDir, datadir.Up)
	if err != nil {
		return nil, err
	}
	dir := claimed.Path
	if _, err := os.Lstat(filepath.Join(dir, stateFile)); err == nil {
		return nil, fmt.Errorf("data directory %s has a cluster already", dir)
	}
	c := &Cluster{DataDir: dir, Version: formatVersion, ID: clusterID(dir), APIPort: o.APIPort, Loopback: o.Loopback, Nodes: []Node{}}
	if c.APIPort == 0 {
		c.APIPort = defaultAPIPort
		if c.Loopback && !free(c.APIAddress()) {
			// Unlike a bridge, loopback is shared with every other program.
			if c.APIPort, err = freePort(c.APIAddress().Addr()); err != nil {
				return nil, err
			}
		}
	}
	taken, err := hostRanges(c.Bridge())
	if err != nil {
		return nil, err
	}
	if err := c.chooseRanges(o, taken); err != nil {
		return nil, err
	}
	if claimed.Kind() == datadir.Server {
		return c, adopt(claimed, c)
	}
	return c, c.Save()
}

// adopt writes the first record of a cluster into the directory of a restored server, which is the cluster's from then
// on. If a server has been started there meanwhile, everything stays as it is.
func adopt(dir *datadir.Dir, c *Cluster) error {
	release, err := datadir.Lock(filepath.Join(dir.Path, "server.lock"))
	if err != nil {
		return fmt.Errorf("continue with a restored server: %w", err)
	}
	if err = dir.Adopt(); err == nil {
		err = c.Save()
	}
	if err != nil {
		err = errors.Join(err, dir.Undo())
	}
	return errors.Join(err, release())
}

// Save writes the record (mode 0600). A crash leaves the old record or the new one, never half of it.
func (c *Cluster) Save() error {
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the cluster's record: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(c.DataDir, stateFile), append(raw, '\n')); err != nil {
		return fmt.Errorf("write the cluster's record: %w", err)
	}
	return nil
}

// APIAddress is where the API server listens.
func (c *Cluster) APIAddress() netip.AddrPort {
	host := c.Gateway
	if c.Loopback {
		host = loopback()
	}
	return netip.AddrPortFrom(host, uint16(c.APIPort))
}

// Bridge is the name of the host's bridge that all nodes are attached to.
func (c *Cluster) Bridge() string { return "ev" + c.ID }

// decode parses and checks a record. It ignores unknown fields; a version that is too new is an error.
func decode(raw []byte) (*Cluster, error) {
	const mend = "restore it from a backup, or stop every everynode process and delete it to start over with new nodes"
	var head struct {
		Version int `json:"version"`
		// NoDNS is a field of records from before there were other add-ons.
		NoDNS bool `json:"noDNS"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("%w JSON: %w; %s", ErrBroken, err, mend)
	}
	if head.Version > formatVersion {
		return nil, fmt.Errorf("written by a newer everynode (format %d, this program knows up to %d): "+
			"use the everynode that made it, or a newer one", head.Version, formatVersion)
	}
	var c Cluster
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("%w content: %w; %s", ErrBroken, err, mend)
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("%w content: %w; %s", ErrBroken, err, mend)
	}
	if head.NoDNS && c.Addons == nil {
		c.Addons = map[string]bool{addons.DNS: false}
	}
	return &c, nil
}

// validate checks what the rest of the package relies on.
func (c *Cluster) validate() error {
	if c.Version < 1 {
		return fmt.Errorf("version is %d", c.Version)
	}
	if !regexp.MustCompile(`^[0-9a-f]{6}$`).MatchString(c.ID) {
		return fmt.Errorf("id %q is not six hex digits", c.ID)
	}
	for name, p := range map[string]netip.Prefix{"subnet": c.Subnet, "podCIDR": c.PodCIDR, "serviceCIDR": c.ServiceCIDR} {
		if !p.IsValid() || !p.Addr().Is4() {
			return fmt.Errorf("%s is missing or not IPv4", name)
		}
	}
	if c.Subnet.Bits() != 24 || c.Gateway != c.Subnet.Masked().Addr().Next() {
		return fmt.Errorf("gateway %v is not the first address of a /24 (%v)", c.Gateway, c.Subnet)
	}
	if c.APIPort < 1 || c.APIPort > 65535 {
		return fmt.Errorf("apiPort is %d", c.APIPort)
	}
	if c.Loopback && len(c.Nodes) > 0 {
		return fmt.Errorf("a cluster on loopback has the node %s", c.Nodes[0].Name)
	}
	names, indexes := map[string]bool{}, map[int]bool{}
	for _, n := range c.Nodes {
		if err := checkName(n.Name); err != nil {
			return err
		}
		if n.Index < 1 || n.Index > MaxNodes || n.Address != c.nodeAddress(n.Index) {
			return fmt.Errorf("node %s has index %d and address %v", n.Name, n.Index, n.Address)
		}
		if names[n.Name] || indexes[n.Index] {
			return fmt.Errorf("node %s or its index %d occurs twice", n.Name, n.Index)
		}
		names[n.Name], indexes[n.Index] = true, true
	}
	return nil
}

// clusterID derives the cluster's id from its data directory.
func clusterID(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:])[:6]
}

// resolveDir returns the absolute path of dir without symbolic links, so that one directory has one id.
func resolveDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("data directory %s: %w", dir, err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", fmt.Errorf("data directory %s: %w", dir, err)
	}
	return real, nil
}
