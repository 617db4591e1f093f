package admission

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// A node's name belongs to the machine that it was given to last. ConfigMaps in
// kube-system say which key that machine has. Without them, a machine could take names
// in advance, and act as those nodes beside the machines that get the names later.
const (
	// givenNames begins the names of these ConfigMaps. There are several, so that a
	// join needs to write only a small one.
	givenNames = "everynode-given-names"
	givenParts = 16
	// givenLabel marks them, so that they can be watched.
	givenLabel = "everynode.io/given-names"
	// givenSize bounds one ConfigMap, in bytes. givenWaiting bounds its names under which no
	// node has registered yet: the holder of a token must not be able to fill it.
	givenSize    = 512 << 10
	givenWaiting = 256
	// givenKept is longer than a certificate of a node is valid: all that were issued
	// before the name was given have expired by then.
	givenKept = 366 * 24 * time.Hour
	// givenCheck is how often each ConfigMap is looked through. givenTold is how long a
	// machine may take to register before that is logged.
	givenCheck = time.Minute
	givenTold  = 10 * time.Minute
	// changeoverTime is how long after a name was given no node may renew its certificate
	// under it, and certificates for another key do not count. Requests of the machine that
	// had the name before may still be on their way, and servers' clocks differ.
	changeoverTime = time.Minute
)

// given says to which machine a name was given.
type given struct {
	key        string // keyHash of that machine's public key
	at         time.Time
	token      string // the id of the token
	registered bool   // a Node of this name was seen since
}

// keyHash returns a short hash that names a public key, which is in DER (PKIX).
func keyHash(spki []byte) string {
	sum := sha256.Sum256(spki)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// accepts reports whether a certificate belongs to the machine that has the name: it is
// for the key that the machine joined with, or was renewed since.
func (g given) accepts(key string, issued time.Time) bool {
	return key == g.key || !issued.Before(g.at.Add(changeoverTime))
}

func (g given) String() string {
	text := strings.Join([]string{g.key, strconv.FormatInt(g.at.Unix(), 10), g.token}, " ")
	if g.registered {
		text += " registered"
	}
	return text
}

func parseGiven(text string) (given, error) {
	fields := strings.Fields(text)
	if len(fields) < 3 || len(fields) > 4 || len(fields) == 4 && fields[3] != "registered" {
		return given{}, fmt.Errorf("%q is not KEY SECONDS TOKEN [registered]", text)
	}
	seconds, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return given{}, fmt.Errorf("%q does not say when the name was given: %w", text, err)
	}
	return given{key: fields[0], at: time.Unix(seconds, 0), token: fields[2], registered: len(fields) == 4}, nil
}

// GivenPart returns the name of the ConfigMap that a node's name is in.
func GivenPart(name string) string {
	return givenPartName(int(sha256.Sum256([]byte(name))[0]) % givenParts)
}

func givenPartName(i int) string { return fmt.Sprintf("%s-%x", givenNames, i) }

// readGiven reads one of the ConfigMaps. If it is missing, readGiven returns a new one, which has no UID.
func (c *nodeController) readGiven(ctx context.Context, part string) (*corev1.ConfigMap, error) {
	list, err := c.client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, part, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: part, Labels: map[string]string{givenLabel: "true"}}, Data: map[string]string{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which names were given to which machines: %w", err)
	}
	if list.Data == nil {
		list.Data = map[string]string{}
	}
	return list, nil
}

// writeGiven writes one of the ConfigMaps. It fails if somebody has changed it meanwhile.
func (c *nodeController) writeGiven(ctx context.Context, list *corev1.ConfigMap) (err error) {
	if maps := c.client.CoreV1().ConfigMaps(metav1.NamespaceSystem); list.UID == "" {
		_, err = maps.Create(ctx, list, metav1.CreateOptions{})
	} else {
		_, err = maps.Update(ctx, list, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("record which name was given to which machine: %w", err)
	}
	return nil
}

// nameIn finds a name in one of the ConfigMaps; nil if it was given to nobody.
func nameIn(list *corev1.ConfigMap, name string) (*given, error) {
	text, there := list.Data[name]
	if !there {
		return nil, nil
	}
	g, err := parseGiven(text)
	if err != nil {
		return nil, fmt.Errorf("the ConfigMap %s/%s: node %s: %w; correct it or delete that line", metav1.NamespaceSystem, list.Name, name, err)
	}
	return &g, nil
}

// roomIn returns why one of the ConfigMaps has no room for more names; "" if it has. asked: an
// administrator has made a token for the name, so givenWaiting does not apply.
func roomIn(list *corev1.ConfigMap, asked bool) string {
	size, waiting := 0, 0
	for name, text := range list.Data {
		size += len(name) + len(text)
		if !strings.HasSuffix(text, " registered") {
			waiting++
		}
	}
	switch {
	case size > givenSize:
		return fmt.Sprintf("the ConfigMap %s/%s, which says what machine has which name, is full: delete the lines of nodes that are gone for good", metav1.NamespaceSystem, list.Name)
	case waiting >= givenWaiting && !asked:
		return fmt.Sprintf("%d machines that were given names have not registered yet (ConfigMap %s/%s): wait for them, or find out who has the token; a token from `everynode token create --node` is accepted anyway", waiting, metav1.NamespaceSystem, list.Name)
	}
	return ""
}

// keepGiven looks through one of the ConfigMaps: it notes which nodes have registered,
// logs which have not, and removes a name once all certificates that were issued before it
// was given have expired.
func (c *nodeController) keepGiven(ctx context.Context, part string) error {
	defer c.queue.AddAfter(item{given: part}, givenCheck)
	list, err := c.readGiven(ctx, part)
	if err != nil {
		return err
	}
	changed := false
	for name, text := range list.Data {
		g, err := parseGiven(text)
		if err != nil {
			klog.ErrorS(err, "Ignoring a line of a ConfigMap", "configMap", klog.KRef(metav1.NamespaceSystem, part), "node", name)
			continue
		}
		_, err = c.nodes.Get(name)
		age := time.Since(g.at)
		switch {
		case age < -changeoverTime:
			// Somebody's clock was ahead. Until that time, no certificate that the node renews would count.
			g.at = time.Now()
			list.Data[name] = g.String()
			changed = true
		case g.registered && age > givenKept:
			delete(list.Data, name)
			changed = true
		case err == nil && !g.registered:
			g.registered = true
			list.Data[name] = g.String()
			changed = true
		case !g.registered && age > givenTold && !c.told[name+g.key]:
			c.told[name+g.key] = true
			klog.Warningf("A machine was given the name %s with the token %s at %s, and no such node has registered. No other machine gets the name, "+
				"except with a token from `everynode token create --node %s`, which takes it from that machine", name, g.token, g.at.UTC().Format(time.RFC3339), name)
		}
	}
	if !changed {
		return nil
	}
	return c.writeGiven(ctx, list)
}
