package console

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// mayBeEmpty is the annotation of a flag whose empty value has a meaning.
const mayBeEmpty = "everynode empty value"

// MayBeEmpty lets users give the flag an empty value. Other flags refuse that: it comes from a shell variable that is not set, and
// the command would do as if the flag had not been given, which is often more than the user wants.
func MayBeEmpty(flags *pflag.FlagSet, name string) {
	if err := flags.SetAnnotation(name, mayBeEmpty, nil); err != nil {
		panic(err) // only if there is no such flag
	}
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
