package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"

	"everynode/internal/addons"
	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/controlplane"
	"everynode/internal/engine"
	"everynode/internal/engine/command"
	"everynode/internal/logfile"
	"everynode/internal/s3"
	"everynode/internal/view"
)

// serverCommand is `everynode server`.
type serverCommand struct {
	*console.Console
	cluster *target
}

func (cmd serverCommand) command() *cobra.Command {
	config, withEngine, ofUp, bindBy, file := controlplane.Config{}, true, false, string(view.ByEngine), ""
	var chosen *addonFlags
	c := &cobra.Command{
		Use:   "server",
		Short: "Run the control plane alone, in the foreground",
		Long: `Run etcd, the API server, the controllers, the scheduler and the DaemonSet engine in
this process, without any node. Machines join with 'everynode agent'.
It listens on loopback unless --listen says otherwise.

With --etcd-servers several servers are one cluster: all answer, one of them leads, and
any may end. They share the keys of the first, which are copied to the others before
their first start (docs/machines.md); one with other keys refuses to start. A server
that leads and cannot reach etcd for ten seconds ends: let systemd start it again.`,
		Example: `  everynode server --listen 0.0.0.0:6443 --advertise-address 192.0.2.10
  everynode token create                      # in another terminal
  everynode server --config server.yaml       # flags win over it (docs/machines.md)
  everynode server --etcd-servers https://192.0.2.20:2379 --etcd-cafile ca.crt --etcd-certfile c.crt --etcd-keyfile c.key`,
		Args: cobra.NoArgs,
		PreRunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return nil
			}
			return loadServerFile(file, c.Flags())
		},
		RunE: func(c *cobra.Command, _ []string) error {
			binder, err := cmd.check(c, &config, chosen, bindBy)
			if err == nil && !ofUp {
				err = localcluster.NotOfUp(cmd.cluster.dataDir)
			}
			if err != nil {
				return err
			}
			if withEngine {
				config.DaemonSets = cmd.daemonSets(len(config.EtcdServers) > 0, binder)
			}
			return cmd.serve(c.Context(), config)
		},
	}
	cmd.cluster.addFlags(c)
	f := c.Flags()
	f.StringVar(&file, serverConfigFlag, "", "file of kind ServerConfiguration with what is not given as a flag")
	addressFlags(f, &config)
	f.BoolVar(&withEngine, localcluster.FlagEngine, true, "run the DaemonSet engine inside; false: 'everynode controller' does its work from outside")
	chosen = newAddonFlags(f, addons.Chosen(addons.OnMachines(nil)))
	guardFlags(f, &config)
	hiddenFlag(f, &ofUp, localcluster.FlagLocal, "the data directory is that of a cluster of `everynode up`")
	hiddenFlag(f, &config.Simulator, localcluster.FlagSimulator, "make the identity of the simulator")
	snapshotFlags(f, &config.Snapshots)
	f.StringVar(&config.LoadBalancers, "load-balancer-range", "", "addresses of services of type LoadBalancer, FIRST-LAST; they answer on this machine")
	f.StringSliceVar(&config.Publish, localcluster.FlagPublish, nil, publishUsage)
	f.StringVar(&bindBy, bindByFlag, bindBy, command.BindByUsage)
	etcdFlags(f, &config)
	completeServer(c)
	c.AddCommand(snapshotCommands(cmd).command(), rotateCommands(cmd).command())
	return c
}

// check refuses wrong settings, and adds what those of add-ons mean.
func (serverCommand) check(c *cobra.Command, config *controlplane.Config, chosen *addonFlags, bindBy string) (view.Binder, error) {
	choice, err := chosen.choice()
	if err == nil {
		err = noneOnHost(choice)
	}
	if err != nil {
		return "", err
	}
	config.Addons = addons.Chosen(addons.OnMachines(choice))
	binder, err := view.ParseBinder(bindBy)
	if err != nil {
		err = fmt.Errorf("--%s: %w", bindByFlag, err)
	}
	if err := errors.Join(err, checkHostPaths(config.HostPathPolicy), controlplane.CheckPodStandard(config.PodSecurity)); err != nil {
		return "", console.WrongCall(c, err)
	}
	return binder, nil
}

// completeServer makes shells offer the words that the flags take.
func completeServer(c *cobra.Command) {
	inside := slices.DeleteFunc(addons.All(), func(a addons.Addon) bool { return a.OnHost })
	for flag, words := range map[string][]string{
		localcluster.FlagWith: addons.Names(inside), localcluster.FlagWithout: addons.Names(inside), localcluster.FlagHostPaths: controlplane.HostPathPolicies(),
		localcluster.FlagPodSecurity: controlplane.PodStandards(), bindByFlag: command.Binders(), addressingFlag: s3.AddressingStyles(),
	} {
		console.CompleteWords(c, flag, words)
	}
}

// serve runs the control plane in the data directory until ctx ends.
func (cmd serverCommand) serve(ctx context.Context, config controlplane.Config) error {
	config.DataDir = cmd.cluster.dataDir
	config.Progress = stepsTo(cmd.Out)
	defer logfile.KeepOwn(os.Stderr, filepath.Join(cmd.cluster.dataDir, localcluster.ServerLogName), slog.New(slog.NewTextHandler(cmd.Err, nil)))()
	return controlplane.Run(ctx, config, func() {
		fmt.Fprintf(cmd.Out, "The API server is ready. Its kubeconfig: %s\n", localcluster.AdminKubeconfig(cmd.cluster.dataDir))
	})
}

// addressFlags are the flags for the API server's address and the cluster's address
// ranges.
func addressFlags(f *pflag.FlagSet, config *controlplane.Config) {
	f.StringVar(&config.Listen, "listen", "127.0.0.1:6443", "address and port of the API server")
	f.StringVar(&config.AdvertiseAddress, "advertise-address", "", "address that nodes and pods use (default: that of --listen)")
	f.StringSliceVar(&config.SANs, "tls-san", nil, "more names and addresses for the API server's certificate")
	f.StringVar(&config.ServiceCIDR, "service-cidr", "10.96.0.0/16", "range of service addresses")
	f.StringVar(&config.PodCIDR, "pod-cidr", "10.42.0.0/16", "range of pod addresses")
	f.StringVar(&config.NodeCIDR, "node-cidr", "", "range of the nodes' own addresses, when this machine routes to it")
}

// guardFlags are the flags for what is recorded and encrypted, and for who may do
// what.
func guardFlags(f *pflag.FlagSet, config *controlplane.Config) {
	f.StringVar(&config.HostPathPolicy, localcluster.FlagHostPaths, "", hostPathUsage+"; not given: as the cluster has it")
	f.BoolVar(&config.Audit, localcluster.FlagAudit, true, "keep a log of who asked what of the API server, in audit/ of the data directory")
	f.StringVar(&config.AuditPolicyFile, "audit-policy-file", "", "what the audit log notes: a file of kind Policy, audit.k8s.io/v1 (default: metadata of changes and of reads of secrets)")
	f.BoolVar(&config.EncryptSecrets, "encrypt-secrets", false, "keep Secrets encrypted in etcd; new clusters do so anyway, and none goes back (docs/security.md)")
	f.StringVar(&config.PodSecurity, localcluster.FlagPodSecurity, "", "standard that pods are held to in namespaces without a label for it, kube-system aside: privileged, baseline, or restricted (default baseline)")
	f.StringVar(&config.AdmissionFile, "admission-control-config-file", "", "how admission plugins are configured: a file of kind AdmissionConfiguration, apiserver.config.k8s.io/v1; a plugin that it names is on")
	f.BoolVar(&config.AllowExternalIPs, "allow-external-ips", false, "let Services have externalIPs: who may make one can then catch what is sent to any address")
	f.StringVar(&config.AuthenticationFile, "authentication-config", "", "OIDC and the like: a file of kind AuthenticationConfiguration, apiserver.config.k8s.io/v1 (docs/security.md)")
}

// hiddenFlag is a flag that users do not give: `up` does.
func hiddenFlag(f *pflag.FlagSet, value *bool, name, usage string) {
	f.BoolVar(value, name, false, usage)
	if err := f.MarkHidden(name); err != nil { // only if there is no such flag
		panic(err)
	}
}

// bindByFlag is the flag that chooses who binds the pods of DaemonSets to their
// nodes.
const bindByFlag = "bind-by"

// Usage texts of flags that `up` has as well.
const (
	hostPathUsage = "of pods that can write to their node, or see all of it, by hostPath: warn, readonly (refuse them), or off"
	publishUsage  = "ports of this machine for services of type LoadBalancer, [ADDRESS:]PORT:SERVICEPORT, such as 8080:80"
)

// daemonSets returns a function that runs the engine inside the control plane. A
// server with its own etcd is the only one, so its engine needs no leader election.
func (cmd serverCommand) daemonSets(elect bool, by view.Binder) func(context.Context, *rest.Config) error {
	return func(ctx context.Context, client *rest.Config) error {
		return engine.Run(ctx, engine.Config{Client: client, LeaderElect: elect, BindBy: by, Log: slog.New(slog.NewTextHandler(cmd.Err, nil))})
	}
}
