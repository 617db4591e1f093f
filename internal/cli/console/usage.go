package console

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// wrongCallCode is the annotation of a command whose wrong calls have an exit code of their own.
const wrongCallCode = "everynode exit code of a wrong call"

// ExitOnWrongCall makes wrong calls of the command end with the code: for this command ExitUsage means something else.
func ExitOnWrongCall(c *cobra.Command, code int) {
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[wrongCallCode] = strconv.Itoa(code)
}

// WrongCall makes err a usage error and points to the command's help.
func WrongCall(c *cobra.Command, err error) error {
	err = usageError{fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath())}
	if code, wrong := strconv.Atoi(c.Annotations[wrongCallCode]); wrong == nil {
		return Failure(err, code)
	}
	return err
}

// flagError explains what is wrong with a flag in words for people: the libraries'
// own errors name their functions.
func flagError(c *cobra.Command, err error) error {
	var value *pflag.InvalidValueError
	var unknown *pflag.NotExistError
	switch {
	case errors.As(err, &value):
		err = valueError(value)
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "":
		err = fmt.Errorf("%w%s", err, DidYouMean("--"+unknown.GetSpecifiedName(), flagNames(c)))
	}
	return WrongCall(c, err)
}

func flagNames(c *cobra.Command) (names []string) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	return names
}

// valueError says what a flag takes. Flags with value types of ours say so
// themselves.
func valueError(e *pflag.InvalidValueError) error {
	if e.GetValue() == "" {
		return emptyValue(e.GetFlag().Name, "")
	}
	given := fmt.Sprintf("--%s %s: ", e.GetFlag().Name, e.GetValue())
	switch e.GetFlag().Value.Type() {
	case "int", "int32", "int64":
		return errors.New(given + "give a whole number")
	case "uint", "uint32", "uint64":
		return errors.New(given + "give a whole number that is not negative")
	case "float32", "float64":
		return errors.New(given + "give a number")
	case "duration":
		return errors.New(given + "give a time such as 90s, 10m or 24h")
	case "bool":
		return errors.New(given + "give true or false")
	case "stringToString":
		return errors.New(given + "give KEY=VALUE, of several with commas between")
	}
	return fmt.Errorf("%s%w", given, e.Unwrap())
}

// wrapArgs makes wrong arguments and missing flags of every command usage errors,
// and suggests what was meant. Shells offer nothing to commands without arguments.
func wrapArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		completeNothing(c, check)
		c.Args = func(c *cobra.Command, args []string) error {
			if err := checkCall(c, check, args); err != nil {
				return WrongCall(c, err)
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}

// checkCall checks the arguments, which check is for, and the flags.
func checkCall(c *cobra.Command, check cobra.PositionalArgs, args []string) error {
	if len(args) > 0 && c.HasAvailableSubCommands() {
		return fmt.Errorf("unknown command %q for %q%s", args[0], c.CommandPath(), suggestion(c, args[0]))
	}
	if err := check(c, args); err != nil {
		return argsError(c, args, err)
	}
	if err := checkFlags(c.Flags()); err != nil {
		return err
	}
	return c.ValidateRequiredFlags()
}

// suggestion suggests the subcommand that was meant: by another name that users
// know it by, or by similar spelling.
func suggestion(c *cobra.Command, given string) string {
	var names []string
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		for _, other := range sub.SuggestFor {
			if strings.EqualFold(other, given) {
				return "; did you mean " + sub.Name() + "?"
			}
		}
		names = append(append(names, sub.Name()), sub.Aliases...)
	}
	return DidYouMean(given, names)
}

// AtLeastOne is the argument check of commands that take one or more names.
func AtLeastOne(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("give the name of at least one %s", what)
		}
		return nil
	}
}
