package console

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Annotations of flags.
const (
	mayBeEmpty     = "everynode empty value"    // an empty value has a meaning
	choosesCluster = "everynode chosen cluster" // it says which cluster the command is for
)

// MayBeEmpty lets users give the flag an empty value. Other flags refuse that: it comes from a shell variable that is not set, and
// the command would do as if the flag had not been given, which is often more than the user wants.
func MayBeEmpty(flags *pflag.FlagSet, name string) { annotate(flags, name, mayBeEmpty) }

// ChoosesCluster is for flags that say which cluster a command is for. A user can give only one of them.
func ChoosesCluster(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		annotate(flags, name, choosesCluster)
	}
}

func annotate(flags *pflag.FlagSet, name, annotation string) {
	if err := flags.SetAnnotation(name, annotation, nil); err != nil {
		panic(err) // only if there is no such flag
	}
}

// checkFlags returns an error for flags that were given and cannot be, whatever the command is.
func checkFlags(flags *pflag.FlagSet) error {
	var clusters []string
	flags.Visit(func(f *pflag.Flag) {
		if _, chooses := f.Annotations[choosesCluster]; chooses {
			clusters = append(clusters, "--"+f.Name)
		}
	})
	if len(clusters) > 1 {
		return fmt.Errorf("%s exclude each other: each of them chooses the cluster", strings.Join(clusters, " and "))
	}
	return checkEmpty(flags)
}

// Parse parses flags of a command whose other arguments are for another program.
func Parse(c *cobra.Command, flags *pflag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return flagError(c, err)
	}
	if err := checkFlags(flags); err != nil {
		return WrongCall(c, err)
	}
	return nil
}

// checkEmpty returns an error if a flag was given without a value.
func checkEmpty(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		if _, may := f.Annotations[mayBeEmpty]; err != nil || may {
			return
		}
		list, is := f.Value.(pflag.SliceValue)
		switch {
		case is && (len(list.GetSlice()) == 0 || slices.Contains(list.GetSlice(), "")):
			err = emptyValue(f.Name, strings.Join(list.GetSlice(), ","))
		case !is && f.Value.String() == "":
			err = emptyValue(f.Name, "")
		}
	})
	return err
}

func emptyValue(flag, given string) error {
	return fmt.Errorf("--%s %q: a value is empty, as that of a shell variable that is not set: give one, or leave the flag out", flag, given)
}
