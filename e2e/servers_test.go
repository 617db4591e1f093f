package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
)

// dialAny connects to the first of several servers that accepts the connection: an
// observer must not go blind because the server that it asks is dead.
func dialAny(servers []string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		var errs []error
		for _, server := range servers {
			conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, server)
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
}

// ledger writes, and records what the API has acknowledged.
type ledger struct {
	client kubernetes.Interface
	stop   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	noted   map[string]string // data by name of the ConfigMap
	refused int
	longest time.Duration // without an acknowledgement
	ended   time.Time     // when the longest gap ended
}

const ledgerNamespace = "ledger"

// writer keeps a ledger in the background: one ConfigMap after the other.
func writer(ts *testscript.TestScript, neg bool, args []string) {
	c := clusterOf(ts)
	switch {
	case !neg && len(args) == 1 && args[0] == "start" && c.ledger == nil:
		l, err := c.startLedger()
		ts.Check(err)
		c.ledger = l
		ts.Defer(l.end)
	case !neg && len(args) == 2 && args[0] == "check" && c.ledger != nil:
		atLeast, err := strconv.Atoi(args[1])
		ts.Check(err)
		c.ledger.end()
		text, err := c.ledger.check(atLeast)
		ts.Check(err)
		ts.Logf("%s", text)
	default:
		ts.Fatalf("usage: writer start, and later writer check AT-LEAST")
	}
}

func (c *cluster) startLedger() (*ledger, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, err = client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ledgerNamespace}}, metav1.CreateOptions{})
	if err != nil {
		cancel()
		return nil, err
	}
	l := &ledger{client: client, stop: cancel, done: make(chan struct{}), noted: map[string]string{}}
	go l.run(ctx)
	return l, nil
}

// run writes about ten entries a second until ctx ends. An entry that was not
// acknowledged may or may not exist, and is not retried.
func (l *ledger) run(ctx context.Context) {
	defer close(l.done)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		name, text := fmt.Sprintf("entry-%06d", i), time.Now().Format(time.RFC3339Nano)
		entry := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"written": text}}
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := l.client.CoreV1().ConfigMaps(ledgerNamespace).Create(attempt, entry, metav1.CreateOptions{})
		cancel()
		l.note(name, text, err, time.Since(last))
		if err == nil {
			last = time.Now()
		}
		<-tick.C
	}
}

func (l *ledger) note(name, text string, err error, since time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since > l.longest {
		l.longest, l.ended = since, time.Now()
	}
	if err != nil {
		l.refused++
		return
	}
	l.noted[name] = text
}

// end stops writing. It may be called twice.
func (l *ledger) end() {
	l.stop()
	<-l.done
}

// check reads the ledger and reports which entries are lost.
func (l *ledger) check(atLeast int) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := l.client.CoreV1().ConfigMaps(ledgerNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", fmt.Errorf("read the ledger: %w", err)
	}
	there := map[string]string{}
	for i := range list.Items {
		there[list.Items[i].Name] = list.Items[i].Data["written"]
	}
	var errs []error
	for name, text := range l.noted {
		if there[name] != text {
			errs = append(errs, fmt.Errorf("%s was acknowledged as %q and is %q", name, text, there[name]))
		}
	}
	if len(l.noted) < atLeast {
		errs = append(errs, fmt.Errorf("%d writes were acknowledged, too few to tell: want %d", len(l.noted), atLeast))
	}
	return fmt.Sprintf("%d writes acknowledged, %d not; the longest time without one: %s, until %s",
		len(l.noted), l.refused, l.longest.Round(time.Millisecond), l.ended.Format("15:04:05.000")), errors.Join(errs...)
}

// TestLedgerCheck shows that the check finds lost entries.
func TestLedgerCheck(t *testing.T) {
	entry := func(name, text string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ledgerNamespace, Name: name}, Data: map[string]string{"written": text}}
	}
	client := fake.NewClientset(entry("a", "1"), entry("b", "2"), entry("not-acknowledged", "3"))
	for _, tc := range []struct {
		name    string
		noted   map[string]string
		atLeast int
		want    string // part of the failure; empty for none
	}{
		{name: "all there", noted: map[string]string{"a": "1", "b": "2"}, atLeast: 2},
		{name: "one lost", noted: map[string]string{"a": "1", "c": "3"}, want: `c was acknowledged as "3" and is ""`},
		{name: "one changed", noted: map[string]string{"a": "2"}, want: `a was acknowledged as "2" and is "1"`},
		{name: "too few", noted: map[string]string{"a": "1"}, atLeast: 2, want: "too few"},
	} {
		_, err := (&ledger{client: client, noted: tc.noted}).check(tc.atLeast)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
}
