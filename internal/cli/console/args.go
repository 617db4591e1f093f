package console

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// argsError says what arguments a command takes, where cobra only counts them. Other errors come from checks of our own.
func argsError(c *cobra.Command, args []string, err error) error {
	said := err.Error()
	_, takes, _ := strings.Cut(c.Use, " ")
	switch {
	case strings.HasPrefix(said, "unknown command "): // cobra.NoArgs takes an argument for a command
		return fmt.Errorf("%s: %q takes no arguments%s", args[0], c.CommandPath(), meant(c, args[0]))
	case !strings.HasPrefix(said, "accepts ") && !strings.HasPrefix(said, "requires at least "):
		return err
	case len(args) == 0:
		return fmt.Errorf("give %s", takes)
	}
	return fmt.Errorf("%s: these are too many arguments: give %s", strings.Join(args, " "), takes)
}

// meant suggests the flag that an argument was probably meant for.
func meant(c *cobra.Command, arg string) string {
	for _, guess := range []struct{ flag, looks string }{
		{"filename", `.`},
		{"config", `\.(ya?ml|json)$`},
		{"nodes", `^\d+$`},
		{"data-dir", `/`},
		{"namespace", `^[a-z0-9-]+$`},
		{"name", `^[a-z0-9-]+$`},
	} {
		f := c.Flags().Lookup(guess.flag)
		switch {
		case f == nil || !regexp.MustCompile(guess.looks).MatchString(arg):
		case f.Shorthand != "":
			return fmt.Sprintf("; did you mean -%s %s?", f.Shorthand, arg)
		default:
			return fmt.Sprintf("; did you mean --%s %s?", f.Name, arg)
		}
	}
	return ""
}
