package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/controlplane"
)

// rotateCommands are the commands of `everynode server rotate`.
type rotateCommands struct {
	*console.Console
	cluster *target
}

func (cmd rotateCommands) command() *cobra.Command {
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the cluster's keys, while it runs",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(cmd.secretsKeyCommand(), cmd.authorityCommand(), cmd.statusCommand())
	return c
}

func (cmd rotateCommands) secretsKeyCommand() *cobra.Command {
	config, output := controlplane.Config{}, ""
	c := &cobra.Command{
		Use:   "secrets-key",
		Short: "Encrypt all Secrets with a new key, and drop the old one",
		Long: `Make a new key for the Secrets in etcd, on any one server, while all run. Every server
learns to read with it; then all write with it; then each Secret is written once more, and
the old key goes. No step is begun before every server that runs has done the one before,
and nobody has to wait for it: Secrets can be read and written all the time. It takes two
minutes, and more with many Secrets.

It may be interrupted anywhere: the same command goes on. Snapshots from before stay
restorable, and have the old key in them.`,
		Example: `  everynode server rotate secrets-key
  everynode server rotate secrets-key --data-dir /var/lib/everynode -o json
  everynode server rotate secrets-key --etcd-servers https://192.0.2.20:2379 --etcd-cafile ca.crt --etcd-certfile c.crt --etcd-keyfile c.key`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			admin, err := localcluster.AdminConfig(cmd.cluster.dataDir)
			if err != nil {
				return err
			}
			config.DataDir, config.Progress = cmd.cluster.dataDir, stepsTo(cmd.Err)
			keys, err := controlplane.RotateSecretsKey(c.Context(), config, admin)
			if err != nil {
				return err
			}
			return cmd.Print(output, keys, func() error {
				_, err := fmt.Fprintf(cmd.Out, "All %d Secrets are encrypted with %s, and no server has another key.\n"+
					"Snapshots from before hold the old key: save a new one, and delete those that nobody should read.\n",
					keys.Keys[0].Secrets, keys.Keys[0].Name)
				return err
			})
		},
	}
	etcdFlags(c.Flags(), &config)
	console.OutputFlag(c, &output)
	return c
}

func (cmd rotateCommands) statusCommand() *cobra.Command {
	config, output := controlplane.Config{}, ""
	c := &cobra.Command{
		Use:   "status",
		Short: "Show which keys and CAs are in use, and how far a rotation is",
		Example: `  everynode server rotate status
  everynode server rotate status -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config.DataDir = cmd.cluster.dataDir
			keys, err := controlplane.SecretsKeyState(c.Context(), config)
			if err != nil {
				return err
			}
			authorities, err := controlplane.AuthorityState(c.Context(), config)
			if err != nil {
				return err
			}
			return cmd.Print(output, rotationStatus{keys, authorities}, func() error {
				if err := cmd.secretsKeysText(keys); err != nil {
					return err
				}
				fmt.Fprintln(cmd.Out)
				return cmd.authoritiesText(authorities)
			})
		},
	}
	etcdFlags(c.Flags(), &config)
	console.OutputFlag(c, &output)
	return c
}

// rotationStatus is what `rotate status` prints.
type rotationStatus struct {
	SecretsKey *controlplane.SecretsKeys `json:"secretsKey"`
	CA         *controlplane.Authorities `json:"ca"`
}

func (cmd rotateCommands) secretsKeysText(k *controlplane.SecretsKeys) error {
	t := console.NewTable(cmd.Out, "KEY", "MADE", "SECRETS", "WRITES")
	for _, key := range k.Keys {
		made := "with the cluster"
		if !key.Made.IsZero() {
			made = key.Made.Local().Format(time.DateTime)
		}
		t.Row(key.Name, made, strconv.Itoa(key.Secrets), yesNo(key.Writes && k.Encrypted))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(cmd.Out)
	t = console.NewTable(cmd.Out, "SERVER", "ADDRESS", "CURRENT")
	for _, s := range k.Servers {
		t.Row(s.Name, s.Address, yesNo(s.Current))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, line := range secretsKeysAdvice(k) {
		fmt.Fprintf(cmd.Out, "\n%s\n", line)
	}
	return nil
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// secretsKeysAdvice returns what to do next, one step a line.
func secretsKeysAdvice(k *controlplane.SecretsKeys) (lines []string) {
	if k.Step != controlplane.KeysSteady {
		lines = append(lines, "A rotation is under way. If nobody works on it, go on with: everynode server rotate secrets-key")
	}
	if k.Clear > 0 {
		lines = append(lines, fmt.Sprintf("%d Secrets are in the clear: docs/security.md says how to encrypt them.", k.Clear))
	}
	if k.Unreadable > 0 {
		lines = append(lines, fmt.Sprintf("%d Secrets are encrypted with keys that the cluster does not have: restore them from a snapshot that has.", k.Unreadable))
	}
	return lines
}
