package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	enginesRunning = 2                // one works, one waits
	leastPause     = 4 * time.Second  // between two kills
	mostPause      = 15 * time.Second // between two kills
)

// killer runs the engines of a cluster. Again and again it kills one of them, a node's kubelet, or the control plane, each with
// SIGKILL, and restarts what does not come back by itself.
type killer struct {
	c       *cluster
	random  *rand.Rand
	engines []*exec.Cmd
	killed  map[string]int // how often, by what
	story   []string       // when what was killed

	cancel context.CancelFunc
	group  sync.WaitGroup
	err    error
}

func (k *killer) startEngines() error {
	for i := range enginesRunning {
		e, err := k.engine(i)
		if err != nil {
			return err
		}
		k.engines = append(k.engines, e)
	}
	return nil
}

// begin starts killing.
func (k *killer) begin(ctx context.Context) {
	k.killed = map[string]int{}
	ctx, k.cancel = context.WithCancel(ctx)
	k.group.Go(func() { k.err = k.kill(ctx) })
}

func (k *killer) engine(number int) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(k.c.workDir, fmt.Sprintf("engine-%d.log", number)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	e := exec.Command(k.c.everynode, "controller", "--kubeconfig", k.c.config, "--metrics-bind-address=0")
	e.Env, e.Stdout, e.Stderr = k.c.env, log, log
	e.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // if the test is killed, no engine stays behind
	return e, e.Start()
}

// stop stops killing, and returns once everything that was killed runs again.
func (k *killer) stop() error {
	k.cancel()
	k.group.Wait()
	return k.err
}

// end ends the engines.
func (k *killer) end() {
	for _, e := range k.engines {
		e.Process.Kill() // it may have ended
		e.Wait()         // it was killed
	}
}

func (k *killer) kill(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(leastPause + time.Duration(k.random.Int64N(int64(mostPause-leastPause)))):
		}
		now := time.Now().Format("15:04:05.000")
		what, err := k.killOne()
		k.story = append(k.story, fmt.Sprintf("%s killed: %s", now, what))
		if err != nil {
			return fmt.Errorf("kill %s: %w", what, err)
		}
		k.killed[what]++
	}
}

func (k *killer) killOne() (what string, err error) {
	switch k.random.IntN(5) {
	case 0:
		return "server", k.killServer()
	case 1, 2:
		number := k.random.IntN(enginesRunning)
		k.engines[number].Process.Kill() // it may have ended by itself
		k.engines[number].Wait()         // it was killed
		k.engines[number], err = k.engine(number)
		return "engine", err
	default:
		pid, err := k.c.child(fmt.Sprintf("node-%d", 1+k.random.IntN(3)), "kubelet")
		if err != nil {
			return "nothing, for a kubelet that is being started again", nil // its agent restarts it
		}
		return "kubelet", killAndWait([]int{pid})
	}
}

func (k *killer) killServer() error {
	pids, err := k.c.holders("server.lock")
	if err == nil && len(pids) == 0 {
		err = errors.New("no control plane runs")
	}
	if err != nil {
		return err
	}
	if err := killAndWait(pids); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	if out, err := k.c.run(ctx, "up", "--detach", "--daemonset-controller=false"); err != nil {
		return fmt.Errorf("everynode up: %w\n%s", err, strings.TrimSpace(out))
	}
	return nil
}
