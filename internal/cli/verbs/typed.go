package verbs

import (
	"fmt"
	"os"
	"strings"

	"everynode/internal/cli/console"
	"everynode/internal/why"
)

// typed returns a command as users of this program type it for the cluster that was asked. What prints commands does not
// know the flags that chose the cluster, and without them a command that is copied would act on another one.
func (a access) typed(to *console.Console, command string) string {
	ours, kubectls := a.Flags()
	if strings.HasPrefix(command, "kubectl ") {
		return command + quotedFlags(kubectls)
	}
	flags := quotedFlags(ours)
	return to.Called(strings.ReplaceAll(command, "; ", flags+"; ") + flags)
}

// quotedFlags returns the flags as a shell reads them, each after a space.
func quotedFlags(flags []string) string {
	// On Windows, where a backslash separates folders, it means nothing to a shell.
	special := func(r rune) bool {
		word := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !word && !strings.ContainsRune("-_=:,./@%+", r) && r != os.PathSeparator
	}
	var b strings.Builder
	for _, flag := range flags {
		if strings.ContainsFunc(flag, special) {
			name, value, _ := strings.Cut(flag, "=")
			flag = name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'"
		}
		b.WriteString(" " + flag)
	}
	return b.String()
}

// allTyped returns the commands as typed returns one. No commands stay nil.
func (a access) allTyped(to *console.Console, commands []string) (all []string) {
	for _, command := range commands {
		all = append(all, a.typed(to, command))
	}
	return all
}

// typeIn replaces the commands in an answer, whatever its form of output.
func (cmd whyCommand) typeIn(answer *why.Answer) {
	for i := range answer.DaemonSets {
		if ds := &answer.DaemonSets[i]; ds.Command != "" {
			ds.Command = cmd.cluster.typed(cmd.Console, ds.Command)
		}
	}
	for i := range answer.Rows {
		row := &answer.Rows[i]
		row.Commands = cmd.cluster.allTyped(cmd.Console, row.Commands)
	}
}

// command returns a command of `rollout` for the DaemonSet. more are its flags and further words.
func (r *release) command(verb, more string) string {
	text := strings.TrimRight(fmt.Sprintf("everynode rollout %s ds/%s -n %s %s", verb, r.Name, r.Namespace, more), " ")
	if r.typed == nil {
		return text
	}
	return r.typed(text)
}
