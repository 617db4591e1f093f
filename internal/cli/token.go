package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"everynode/internal/controlplane"
)

func (a *app) tokenCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "token",
		Short: "Tokens with which machines join",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	a.dataDirFlag(c)
	c.AddCommand(a.tokenCreateCommand(), a.tokenListCommand(), a.tokenDeleteCommand())
	return c
}

func (a *app) tokenCreateCommand() *cobra.Command {
	var ttl time.Duration
	var description, output string
	c := &cobra.Command{
		Use:   "create",
		Short: "Create a token and print it, once",
		Example: `  everynode token create --ttl 2h --description "rack 7"
  everynode token create -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if ttl <= 0 {
				return usageError{fmt.Errorf("--ttl %s: a token must expire; give a positive time such as 24h", ttl)}
			}
			client, err := a.adminClient()
			if err != nil {
				return err
			}
			token, err := controlplane.CreateToken(c.Context(), client, ttl, description)
			if err != nil {
				return err
			}
			return a.print(output, tokenRow{ID: token.ID, Token: token.String(), Expires: token.Expires, Description: token.Description}, func() error {
				_, err := fmt.Fprintln(a.out, token)
				return err
			})
		},
	}
	c.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long the token is good for")
	c.Flags().StringVar(&description, "description", "", "what it is for")
	a.outputFlag(c, &output)
	return c
}

// tokenRow is a token as it is printed. Token, the whole of it, is only there
// when it has just been made.
type tokenRow struct {
	ID          string    `json:"id"`
	Token       string    `json:"token,omitempty"`
	Expires     time.Time `json:"expires"`
	Description string    `json:"description,omitempty"`
}

func (a *app) tokenListCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the tokens, without their secrets",
		Example: "  everynode token list -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.adminClient()
			if err != nil {
				return err
			}
			tokens, err := controlplane.ListTokens(c.Context(), client)
			if err != nil {
				return err
			}
			rows := make([]tokenRow, 0, len(tokens))
			for _, t := range tokens {
				rows = append(rows, tokenRow{ID: t.ID, Expires: t.Expires, Description: t.Description})
			}
			return a.print(output, rows, func() error { return a.tokenTable(rows) })
		},
	}
	a.outputFlag(c, &output)
	return c
}

func (a *app) tokenTable(rows []tokenRow) error {
	t := newTable(a.out, "ID", "EXPIRES", "DESCRIPTION")
	for _, r := range rows {
		expires := "never"
		if !r.Expires.IsZero() {
			expires = r.Expires.Local().Format(time.DateTime)
		}
		t.row(r.ID, expires, r.Description)
	}
	return t.flush()
}

func (a *app) tokenDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "delete ID...",
		Aliases: []string{"rm"},
		Short:   "Delete tokens; nodes that have joined stay",
		Example: "  everynode token delete abcdef",
		Args:    atLeastOne("token"),
		RunE: func(c *cobra.Command, ids []string) error {
			client, err := a.adminClient()
			if err != nil {
				return err
			}
			for _, id := range ids {
				if err := controlplane.DeleteToken(c.Context(), client, id); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "token %s deleted\n", id)
			}
			return nil
		},
	}
}
