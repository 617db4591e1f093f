package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"everynode/internal/cli/console"
	"everynode/internal/cli/localcluster"
	"everynode/internal/controlplane/admission"
)

// tokenCommands are the commands of `everynode token`.
type tokenCommands struct {
	*console.Console
	cluster *target
}

func (cmd tokenCommands) command() *cobra.Command {
	c := &cobra.Command{
		Use:   "token",
		Short: "Tokens with which machines join",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.cluster.addFlags(c)
	c.AddCommand(cmd.createCommand(), cmd.listCommand(), cmd.deleteCommand())
	return c
}

func (cmd tokenCommands) createCommand() *cobra.Command {
	var spec admission.TokenSpec
	var output string
	c := &cobra.Command{
		Use:   "create",
		Short: "Create a token and print it, once",
		Long: `Create a token and print it with the hash of the cluster's authority, by which a machine
knows the cluster. Its holder can make new nodes. With --node it can make the nodes of
these names, and take the place of those that exist; then it is good for one use of
each, unless --uses says otherwise.`,
		Example: `  everynode token create --ttl 2h --description "rack 7"
  everynode token create --node db-1     # also when there is a node db-1
  everynode token create --uses 20 -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if spec.TTL <= 0 {
				return console.Usage(fmt.Errorf("--ttl %s: a token must expire; give a positive time such as 24h", spec.TTL))
			}
			if spec.Uses < 0 || spec.Uses == 0 && c.Flags().Changed("uses") {
				return console.Usage(fmt.Errorf("--uses %d: give a positive number, or leave it out", spec.Uses))
			}
			if spec.Uses == 0 {
				spec.Uses = len(spec.Nodes)
			}
			client, err := localcluster.AdminClient(cmd.cluster.dataDir)
			if err != nil {
				return err
			}
			authority, err := localcluster.AuthorityHash(cmd.cluster.dataDir)
			if err != nil {
				return err
			}
			token, err := admission.CreateToken(c.Context(), client, spec)
			if err != nil {
				return err
			}
			row := tokenRowOf(token)
			row.Token = token.String() + "@" + authority
			return cmd.Print(output, row, func() error {
				_, err := fmt.Fprintln(cmd.Out, row.Token)
				return err
			})
		},
	}
	c.Flags().DurationVar(&spec.TTL, "ttl", 24*time.Hour, "how long the token is good for")
	c.Flags().StringVar(&spec.Description, "description", "", "what it is for")
	c.Flags().StringSliceVar(&spec.Nodes, "node", nil, "names of the nodes that it is for (default: any that do not exist)")
	c.Flags().IntVar(&spec.Uses, "uses", 0, "how many machines may join with it (default: any number, or one for each --node)")
	console.OutputFlag(c, &output)
	return c
}

// tokenRow is a token as it is printed. Token, the whole of it, is only known
// when it has just been made.
type tokenRow struct {
	ID          string    `json:"id"`
	Token       string    `json:"token,omitempty"`
	Expires     time.Time `json:"expires"`
	Nodes       []string  `json:"nodes,omitempty"`
	Uses        int       `json:"uses,omitempty"` // zero: any number
	Used        int       `json:"used,omitempty"` // counted if Uses is not zero
	Description string    `json:"description,omitempty"`
}

func tokenRowOf(t admission.Token) tokenRow {
	return tokenRow{ID: t.ID, Expires: t.Expires, Nodes: t.Nodes, Uses: t.Uses, Used: len(t.UsedBy), Description: t.Description}
}

func (cmd tokenCommands) listCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the tokens, without their secrets",
		Example: "  everynode token list -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := localcluster.AdminClient(cmd.cluster.dataDir)
			if err != nil {
				return err
			}
			tokens, err := admission.ListTokens(c.Context(), client)
			if err != nil {
				return err
			}
			rows := make([]tokenRow, 0, len(tokens))
			for _, t := range tokens {
				rows = append(rows, tokenRowOf(t))
			}
			return cmd.Print(output, rows, func() error { return cmd.table(rows) })
		},
	}
	console.OutputFlag(c, &output)
	return c
}

func (cmd tokenCommands) table(rows []tokenRow) error {
	t := console.NewTable(cmd.Out, "ID", "EXPIRES", "NODES", "USED", "DESCRIPTION")
	for _, r := range rows {
		expires := "never"
		if !r.Expires.IsZero() {
			expires = r.Expires.Local().Format(time.DateTime)
		}
		nodes, used := "new ones", "-"
		if len(r.Nodes) > 0 {
			nodes = strings.Join(r.Nodes, ",")
		}
		if r.Uses > 0 {
			used = fmt.Sprintf("%d of %d", r.Used, r.Uses)
		}
		t.Row(r.ID, expires, nodes, used, r.Description)
	}
	return t.Flush()
}

func (cmd tokenCommands) deleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "delete ID...",
		Aliases:           []string{"rm"},
		Short:             "Delete tokens; nodes that have joined stay",
		Example:           "  everynode token delete abcdef",
		Args:              console.AtLeastOne("token"),
		ValidArgsFunction: cmd.cluster.completeTokens,
		RunE: func(c *cobra.Command, ids []string) error {
			client, err := localcluster.AdminClient(cmd.cluster.dataDir)
			if err != nil {
				return err
			}
			for _, id := range ids {
				if err := admission.DeleteToken(c.Context(), client, id); err != nil {
					return err
				}
				fmt.Fprintf(cmd.Out, "token %s deleted\n", id)
			}
			return nil
		},
	}
}
