package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/controlplane"
	"everynode/internal/s3"
	"everynode/internal/seal"
)

// snapshotCommands are the commands of `everynode server snapshot`.
type snapshotCommands struct {
	*console.Console
	cluster *target
}

func (cmd snapshotCommands) command() *cobra.Command {
	c := &cobra.Command{
		Use:   "snapshot",
		Short: "Save the cluster's state to a file, and bring it back",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(cmd.saveCommand(), cmd.listCommand(), cmd.restoreCommand())
	return c
}

func (cmd snapshotCommands) saveCommand() *cobra.Command {
	config, output, sealed := controlplane.Config{}, "", seal.To{}
	to := controlplane.SnapshotTarget{Everynode: console.Version}
	c := &cobra.Command{
		Use:   "save FILE",
		Short: "Save the cluster's state to FILE, while the server runs",
		Long: `Save all objects of the cluster, and the keys that its nodes and tokens depend on, to one
file. The server goes on working. The file holds every secret of the cluster: its mode is
0600, and it should be kept as the data directory is. Sealed for a key or with a
passphrase (in the format of age), it can be kept elsewhere as well: in S3-compatible
storage, for example, where it gets a name if FILE is s3://BUCKET/FOLDER.`,
		Example: `  everynode server snapshot save /backup/$(date +%F).tar
  everynode server snapshot save today.tar --force -o json
  everynode server snapshot save today.tar.age --recipient age1...     # age-keygen makes the keys
  everynode server snapshot save s3://backup/cluster-1 --recipient age1... --s3-endpoint https://minio.example.com --s3-credentials-file s3.ini
  everynode server snapshot save today.tar --etcd-servers https://192.0.2.20:2379 --etcd-cafile ca.crt --etcd-certfile c.crt --etcd-keyfile c.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			config.DataDir, config.Progress, to.File = cmd.cluster.dataDir, stepsTo(cmd.Err), args[0]
			var err error
			if to.Lock, err = sealed.Lock(console.Until(c.Context(), cmd.In)); err != nil {
				return err
			}
			saved, err := controlplane.SaveSnapshot(c.Context(), config, to)
			if err != nil {
				return err
			}
			return cmd.Print(output, saved, func() error {
				advice := "Whoever reads it owns the cluster: keep it safe, or seal it with --recipient."
				if saved.Sealed {
					advice = "It is sealed: without its key or passphrase, which belong somewhere else, it is lost."
				}
				_, err := fmt.Fprintf(cmd.Out, "Saved to %s: %.1f MB, %d keys, revision %d, hash %s, in %.1fs.\n%s\n",
					saved.File, float64(saved.Size)/1e6, saved.Keys, saved.Revision, saved.Hash, saved.Took, advice)
				return err
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&to.Replace, "force", false, "replace FILE if it is there")
	storageFlags(f, &to.Storage.Options)
	console.CompleteWords(c, addressingFlag, s3.AddressingStyles())
	unsealedFlag(f, &to.Storage)
	f.StringSliceVar(&sealed.Recipients, "recipient", nil, "seal FILE for this public key of age's, age1...; may be given several times")
	f.StringVar(&sealed.RecipientsFile, "recipients-file", "", "seal FILE for the public keys in this file, one a line")
	f.StringVar(&sealed.PassphraseFile, "passphrase-file", "", "seal FILE with the passphrase in the first line of this file; - is standard input")
	etcdFlags(f, &config)
	console.OutputFlag(c, &output)
	return c
}

func (cmd snapshotCommands) restoreCommand() *cobra.Command {
	output, with, storage := "", seal.With{}, s3.Options{}
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Fill a data directory from FILE, while no server runs on it",
		Long: `Make the data directory of a server from a file that 'snapshot save' made, or from a
snapshot of etcd's own (etcdctl snapshot save). FILE may be in S3-compatible storage,
s3://BUCKET/NAME. The directory must hold no etcd yet: nothing is replaced. Nodes and people keep their credentials; what happened after the save is gone.
All resourceVersions are raised, and every watch from before has to begin again.`,
		Example: `  everynode server snapshot restore /backup/2026-01-31.tar --data-dir /var/lib/everynode
  everynode server snapshot restore today.tar.age --identity key.txt --data-dir /var/lib/everynode
  mv /var/lib/everynode/etcd /var/lib/everynode/etcd.old    # to go back on the same machine`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			restored, err := controlplane.RestoreSnapshot(c.Context(), controlplane.RestoreConfig{
				File: args[0], Storage: storage, DataDir: cmd.cluster.dataDir, Progress: stepsTo(cmd.Err), With: with, Stdin: console.Until(c.Context(), cmd.In),
			})
			if err != nil {
				return err
			}
			if advice := restored.Advice(); advice != "" {
				fmt.Fprintf(cmd.Err, "warning: %s\n", advice)
			}
			return cmd.Print(output, restored, func() error { return cmd.restoredText(restored) })
		},
	}
	f := c.Flags()
	f.StringSliceVar(&with.Identities, "identity", nil, "file of the private key that opens a sealed FILE, as age-keygen makes it; may be given several times")
	f.StringVar(&with.PassphraseFile, "passphrase-file", "", "file with the passphrase that opens a sealed FILE in its first line; - is standard input")
	storageFlags(f, &storage)
	console.CompleteWords(c, addressingFlag, s3.AddressingStyles())
	console.OutputFlag(c, &output)
	return c
}

func (cmd snapshotCommands) listCommand() *cobra.Command {
	output, storage := "", s3.Options{}
	c := &cobra.Command{
		Use:     "list [FOLDER]",
		Aliases: []string{"ls"},
		Short:   "List the snapshots in a folder",
		Long: `List what is called like a snapshot (NAME.tar, NAME.tar.age) in FOLDER, oldest first: a
folder of this machine, or s3://BUCKET/FOLDER. Without FOLDER it is the one that the
server puts snapshots in by itself, in the data directory.`,
		Example: `  everynode server snapshot list
  everynode server snapshot list s3://backup/cluster-1 --s3-endpoint https://minio.example.com --s3-credentials-file s3.ini`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			folder := filepath.Join(cmd.cluster.dataDir, "snapshots")
			if len(args) > 0 {
				folder = args[0]
			}
			list, err := controlplane.ListSnapshots(c.Context(), folder, storage)
			if err != nil {
				return err
			}
			return cmd.Print(output, list, func() error { return cmd.table(folder, list) })
		},
	}
	storageFlags(c.Flags(), &storage)
	console.CompleteWords(c, addressingFlag, s3.AddressingStyles())
	console.OutputFlag(c, &output)
	return c
}

func (cmd snapshotCommands) table(folder string, list []controlplane.StoredSnapshot) error {
	if len(list) == 0 {
		_, err := fmt.Fprintf(cmd.Out, "There are no snapshots in %s.\n", folder)
		return err
	}
	t := console.NewTable(cmd.Out, "TIME", "SIZE", "SEALED", "FILE")
	for _, s := range list {
		sealed := "no"
		if s.Sealed {
			sealed = "yes"
		}
		t.Row(s.Time.Local().Format(time.DateTime), fmt.Sprintf("%.1f MB", float64(s.Size)/1e6), sealed, s.File)
	}
	return t.Flush()
}

func (cmd snapshotCommands) restoredText(r *controlplane.RestoredSnapshot) error {
	saved := "etcd's own snapshot"
	if s := r.Saved; s != nil {
		saved = fmt.Sprintf("the state of %s (everynode %s, Kubernetes %s)", s.Time.Local().Format(time.DateTime), s.Everynode, s.Kubernetes)
	}
	_, err := fmt.Fprintf(cmd.Out, "%s holds %s: %d keys, from revision %d on, in %.1fs.\nStart it as before: `everynode up`, or `everynode server`.\n"+
		"Nodes that were revoked since then are accepted again. Revoke those first: everynode node revoke NAME\n",
		r.DataDir, saved, r.Keys, r.Revision, r.Took)
	return err
}

// stepsTo returns what prints the steps of a long operation. out is for standard error: standard output is for
// results.
func stepsTo(out io.Writer) func(step string, took time.Duration) {
	return func(step string, took time.Duration) { fmt.Fprintf(out, "%-40s %6.1fs\n", step, took.Seconds()) }
}

// snapshotFlags are the flags for when a server saves its cluster by itself.
func snapshotFlags(f *pflag.FlagSet, s *controlplane.SnapshotSchedule) {
	s.Everynode = console.Version
	f.DurationVar(&s.Every, localcluster.FlagSnapshotEvery, 12*time.Hour, "save a snapshot of the cluster this often; 0: never")
	f.StringVar(&s.Dir, "snapshot-dir", "", "folder for them, better on another disk (default: snapshots/ in the data directory)")
	f.IntVar(&s.Keep, "snapshot-keep", controlplane.DefaultSnapshotKeep, "how many of this machine's to keep; older ones are deleted")
	f.StringSliceVar(&s.Recipients, "snapshot-recipient", nil, "seal them for this public key of age's, age1...; may be given several times")
	f.StringVar(&s.Upload, "snapshot-upload", "", "copy each into S3-compatible storage as well, s3://BUCKET/FOLDER")
	f.IntVar(&s.UploadKeep, "snapshot-upload-keep", controlplane.DefaultSnapshotKeep, "how many of this machine's to keep there; older ones are deleted; 0: all stay")
	storageFlags(f, &s.Storage.Options)
	unsealedFlag(f, &s.Storage)
}

// addressingFlag is the flag for where requests name the bucket.
const addressingFlag = "s3-addressing-style"

// storageFlags are the flags for how to reach S3-compatible storage. No flag takes a secret: everybody on the machine
// can read a command line.
func storageFlags(f *pflag.FlagSet, o *s3.Options) {
	f.StringVar(&o.Endpoint, "s3-endpoint", "", "URL of the S3-compatible storage, https://HOST[:PORT] (default: Amazon's of the region)")
	f.StringVar(&o.Region, "s3-region", "", "region of the bucket (default: AWS_REGION, or us-east-1 if there is an endpoint)")
	f.StringVar(&o.CAFile, "s3-ca-file", "", "authorities that the storage's certificate may be of (default: the system's)")
	o.AddressingStyle = s3.AddressingAuto
	f.Var(console.OneOf(&o.AddressingStyle, s3.AddressingStyles()), addressingFlag, "where requests name the bucket: path, virtual (in the host's name), or auto")
	f.StringVar(&o.CredentialsFile, "s3-credentials-file", "", "credentials, in the format of AWS's shared credentials file (default: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE)")
	f.BoolVar(&o.Insecure, "s3-insecure", false, "allow storage without TLS on another machine")
}

func unsealedFlag(f *pflag.FlagSet, s *controlplane.SnapshotStorage) {
	f.BoolVar(&s.Unsealed, "s3-unsealed", false, "allow snapshots there that are not sealed: who can read them owns the cluster")
}

// etcdFlags are the flags that name an existing etcd, and how to reach it.
func etcdFlags(f *pflag.FlagSet, config *controlplane.Config) {
	f.StringSliceVar(&config.EtcdServers, "etcd-servers", nil, "URLs of an etcd that is there already (default: one inside)")
	f.StringVar(&config.EtcdCAFile, "etcd-cafile", "", "CA of that etcd")
	f.StringVar(&config.EtcdCertFile, "etcd-certfile", "", "client certificate for that etcd")
	f.StringVar(&config.EtcdKeyFile, "etcd-keyfile", "", "key of the client certificate")
}
