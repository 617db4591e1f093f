package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

const (
	// pollEvery is the pause between two checks of a condition. A check often starts a process, which costs a
	// quarter of a second of CPU, and the machine has other work. So the pause grows with the time that a
	// script has waited, up to pollAtMost.
	pollEvery  = 400 * time.Millisecond
	pollAtMost = time.Second
)

type scriptCommand = func(ts *testscript.TestScript, neg bool, args []string)

// commandTable returns what scripts can say beyond testscript's own commands.
func commandTable() map[string]scriptCommand {
	return map[string]scriptCommand{
		// everynode ARGS..., kubectl ARGS...: run the program.
		"everynode": program("everynode"),
		"kubectl":   program("kubectl"),
		// exits CODE PROGRAM ARGS...: run a program that must end with this code.
		"exits": exits,
		// until DURATION REGEX PROGRAM ARGS...: run the program again and again
		// until it succeeds and prints something that matches.
		"until": until,
		// fetch DURATION REGEX URL: the same for an HTTP GET.
		"fetch": fetch,
		// capture NAME: set the variable to what the last command printed.
		"capture": capture,
		// free-port NAME: set the variable to a TCP port that nothing uses.
		"free-port": freePort,
		// whole-input POD: with exec and cp, a megabyte gets into the pod complete.
		// whole-attach POD: the same with attach. Fifty times in the long run.
		"whole-input":  wholeInput,
		"whole-attach": wholeAttach,
		// listen ADDRESS: keep a TCP address in use until the script ends.
		"listen": listen,
		// as-nobody PROGRAM ARGS...: run a program without any privileges. It must fail.
		"as-nobody": asNobody,
		// ordinary-user: the cluster belongs to the user nobody, who has access to nothing else; from here on
		// `exec as-user PROGRAM ARGS...` runs a program as nobody.
		"ordinary-user": ordinaryUser,
		// also-cluster DIR: the script makes a second cluster, in this data directory. It is purged when the
		// script ends, even if the script fails.
		"also-cluster": alsoCluster,

		// remember-pods NAME SELECTOR; same-pods NAME SELECTOR [NODE...]: they still run, and neither they
		// nor their containers were replaced.
		"remember-pods": rememberPods,
		"same-pods":     samePods,
		// one-pod-each SELECTOR NODE...: exactly one pod that is not terminating on each of these nodes, and
		// none elsewhere.
		"one-pod-each": onePodEach,

		// watch-rollout DAEMONSET: watch a rollout from here on.
		//
		// rollout-begun DURATION: wait until it has replaced a pod.
		//
		// rollout-kept MAX-DOWN: it replaced every pod once, kept its budget, and waited between two
		// replacements.
		"watch-rollout": watchRollout,
		"rollout-begun": rolloutBegun,
		"rollout-kept":  rolloutKept,

		// serving-images: the nodes have the images of e2e/serving.
		//
		// updates-under-kills DAEMONSET HOST-PORT COUNT InPlaceIfPossible|deletion: update it while engines,
		// kubelets and the control plane are killed. Clients ask each node's pod meanwhile: the rollout must
		// keep its budget, and the status must be true.
		//
		// update-costs DAEMONSET HOST-PORT COUNT: print what it costs to update a pod in place, and by
		// deletion.
		"serving-images":      servingImages,
		"update-costs":        updateCosts,
		"updates-under-kills": updatesUnderKills,

		// kill9 server|agents|all, kill9 NODE kubelet|kube-proxy|containerd.
		// restarted DURATION NODE PROGRAM: it runs again, as a new process.
		"kill9":     kill9,
		"restarted": restarted,
		// reboot: remove everything that a reboot removes.
		"reboot": reboot,

		// leftovers before|after: at "after" the machine has nothing that it did not have at "before".
		"leftovers": leftovers,

		// machine NAME ADDRESS/BITS: one more machine; `exec on NAME PROGRAM
		// ARGS...` runs a program there.
		// link NAME ADDRESS/BITS: a network interface of this machine.
		"machine": machine,
		"link":    link,
		// etcd-keys FOLDER NAME=ADDRESS...: the keys and certificates by which members of an etcd and its
		// clients know each other. `exec on MACHINE etcd-member FOLDER KEYS NAME NAME=ADDRESS...` runs a
		// member. etcd-healthy DURATION KEYS ADDRESS: it has caught up with the others.
		"etcd-keys":    etcdKeys,
		"etcd-healthy": etcdHealthy,
		// writer start; writer check AT-LEAST: write all the time, then check that everything the API has
		// acknowledged is still there.
		"writer":   writer,
		"registry": registry,
		// printed HEADING TEXT FILE [PAGE]: write commands that docs/install.md (or PAGE) prints into a file:
		// the code block under the heading that contains the text.
		"printed": printed,
		// collected DURATION POD AT-LEAST AT-MOST-AGAIN: every line of pods named POD-... has arrived at the
		// log collector's gateway; at most AT-MOST-AGAIN were sent twice.
		"collected": collected,
		// s3-storage NAME CREDENTIALS CA: start S3-compatible storage; set the variable to its URL, write its
		// credentials into one file and its certificate authority into another.
		"s3-storage": s3Storage,
		// attacker-image ARCHIVE: build the image of a pod that attacks. attack POD FILE: the pod makes all
		// attempts in the file, and each must be refused.
		"attacker-image": attackerImage,
		"attack":         attack,
		// tmpfs FOLDER OPTIONS: a small disk, until the script ends.
		"tmpfs": tmpfs,
	}
}

func program(name string) scriptCommand {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		err := ts.Exec(name, args...)
		switch {
		case err != nil && !neg:
			ts.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
		case err == nil && neg:
			ts.Fatalf("%s %s: it should fail", name, strings.Join(args, " "))
		}
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGS...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	got := 0
	if exit != nil {
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, not %d", got, want)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: until DURATION REGEX PROGRAM [ARGS...]")
	}
	want := pattern(ts, args[1])
	poll(ts, args[0], func(ctx context.Context) (string, error) {
		cmd, err := command(ctx, ts, args[2], args[3:]...)
		if err != nil {
			return "", err
		}
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		if err := cmd.Run(); err != nil {
			return out.String(), fmt.Errorf("%w\n%s%s", err, out.String(), errOut.String())
		}
		if !want.MatchString(out.String()) {
			return out.String(), fmt.Errorf("no match for %#q in:\n%s%s", args[1], out.String(), errOut.String())
		}
		return out.String(), nil
	})
}

func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: fetch DURATION REGEX URL")
	}
	want := pattern(ts, args[1])
	poll(ts, args[0], func(ctx context.Context) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[2], nil)
		if err != nil {
			return "", err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return "", err
		}
		text := resp.Status + "\n" + string(body)
		if !want.MatchString(text) {
			return text, fmt.Errorf("no match for %#q in:\n%s", args[1], text)
		}
		return text, nil
	})
}

// poll calls try until it succeeds, and prints what it returned. It fails the script when the time is over.
// The last try may begin just before that, so it gets a little longer.
func poll(ts *testscript.TestScript, limit string, try func(context.Context) (string, error)) {
	within, err := time.ParseDuration(limit)
	ts.Check(err)
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), within+2*time.Second)
	defer cancel()
	for pause := pollEvery; ; pause = min(pause+pause/8, pollAtMost) {
		next := time.After(pause)
		started := time.Since(begin)
		text, err := try(ctx)
		if err == nil {
			ts.Logf("after %.1fs", time.Since(begin).Seconds())
			fmt.Fprint(ts.Stdout(), text)
			return
		}
		if started >= within || ctx.Err() != nil {
			ts.Fatalf("not within %s: %v", within, err)
		}
		<-next
	}
}

func pattern(ts *testscript.TestScript, text string) *regexp.Regexp {
	re, err := regexp.Compile("(?m)" + text)
	ts.Check(err)
	return re
}

// command prepares a program to run in the script's folder with its environment.
func command(ctx context.Context, ts *testscript.TestScript, name string, args ...string) (*exec.Cmd, error) {
	path, err := findProgram(ts.Getenv("PATH"), name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	cmd.Dir = ts.MkAbs(".")
	for _, v := range []string{"PATH", "HOME", "TMPDIR", "WORK", "REPOSITORY", "EVERYNODE_DATA_DIR", "XDG_STATE_HOME", "KUBECONFIG"} {
		if value := ts.Getenv(v); value != "" {
			cmd.Env = append(cmd.Env, v+"="+value)
		}
	}
	return cmd, nil
}

func findProgram(path, name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: capture NAME")
	}
	value := strings.TrimSpace(ts.ReadFile("stdout"))
	if value == "" {
		ts.Fatalf("the last command printed nothing")
	}
	ts.Setenv(args[0], value)
}

func freePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: free-port NAME")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(errors.Join(err, l.Close()))
	ts.Setenv(args[0], port)
}

func alsoCluster(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: also-cluster DIR")
	}
	c, dir := clusterOf(ts), ts.MkAbs(args[0])
	ts.Defer(func() {
		ctx, cancel := context.WithTimeout(context.Background(), purgeTime)
		defer cancel()
		if out, err := c.run(ctx, "down", "--purge", "--data-dir", dir); err != nil {
			c.t.Errorf("everynode down --purge --data-dir %s: %v\n%s", dir, err, out)
		}
	})
}

func listen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listen ADDRESS")
	}
	l, err := net.Listen("tcp", args[0])
	ts.Check(err)
	ts.Defer(func() {
		if err := l.Close(); err != nil {
			clusterOf(ts).t.Errorf("stop listening: %v", err)
		}
	})
}

func tmpfs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tmpfs FOLDER OPTIONS")
	}
	c, dir := clusterOf(ts), ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", args[1], "tmpfs", dir).CombinedOutput(); err != nil {
		ts.Fatalf("mount a small disk: %v\n%s", err, out)
	}
	ts.Defer(func() {
		// EINVAL: the script has unmounted it already. What still uses it is unmounted after this.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			c.t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

// asNobody opens the program as root and runs the open file, because nobody may not be able to reach its
// folder.
func asNobody(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: as-nobody PROGRAM [ARGS...]")
	}
	path, err := findProgram(ts.Getenv("PATH"), args[0])
	ts.Check(err)
	file, err := os.Open(path)
	ts.Check(err)
	defer file.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd, err := command(ctx, ts, "/proc/self/fd/3", args[1:]...)
	ts.Check(err)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	err = cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		ts.Fatalf("it should run and fail: %v", err)
	}
}
