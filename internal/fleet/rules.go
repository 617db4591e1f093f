package fleet

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Rules say what happens to the pods of simulated nodes.
type Rules struct {
	// Start is how long it takes until a pod's containers run.
	Start time.Duration `json:"start"`
	// Ready is how long a running pod takes to become ready, to crash, or, if it does not run forever, to
	// finish.
	Ready time.Duration `json:"ready"`
	// Stop is how long a pod takes to stop, at most its grace period.
	Stop time.Duration `json:"stop"`
	// Jitter varies every delay by up to this share of it, up or down.
	Jitter Share `json:"jitter"`
	// Fail says which pods fail, and how.
	Fail Failures `json:"fail"`
	// Seed is an additional input of the draws.
	Seed uint64 `json:"seed"`
}

// Validate returns what is wrong with the rules, or nil.
func (r Rules) Validate() error {
	for _, d := range []struct {
		what string
		time.Duration
	}{{"start", r.Start}, {"ready", r.Ready}, {"stop", r.Stop}} {
		if d.Duration < 0 {
			return fmt.Errorf("the %s delay %s is negative: give 0s or more", d.what, d.Duration)
		}
	}
	return nil
}

// fate is what will happen to one pod.
type fate struct {
	start, ready, stop time.Duration
	failure            Mode // "": none
}

// fate applies the rules, and the annotations of pod and node that override them. An annotation that cannot
// be parsed is an error, and then the rule applies.
func (r Rules) fate(node *corev1.Node, pod *corev1.Pod) (fate, error) {
	var errs []error
	delay := func(annotation string, rule time.Duration) time.Duration {
		if text := override(node, pod, annotation); text != "" {
			d, err := time.ParseDuration(text)
			if err == nil && d < 0 {
				err = errors.New("it is negative")
			}
			if err == nil {
				rule = d
			} else {
				errs = append(errs, fmt.Errorf("annotation %s: %q is not a delay such as 5s: %w", annotation, text, err))
			}
		}
		return rule + time.Duration(float64(rule)*float64(r.Jitter)*(2*r.draw(former(annotation), pod)-1))
	}
	f := fate{start: delay(AnnotationStart, r.Start), ready: delay(AnnotationReady, r.Ready), stop: delay(AnnotationStop, r.Stop)}
	failures := r.Fail
	if text := override(node, pod, AnnotationFail); text != "" {
		var own Failures
		if err := own.UnmarshalText([]byte(text)); err != nil {
			errs = append(errs, fmt.Errorf("annotation %s: %w", AnnotationFail, err))
		} else {
			failures = own
		}
	}
	f.failure = failures.pick(r.draw(former(AnnotationFail), pod), images(pod))
	return f, errors.Join(errs...)
}

// override returns an annotation of the pod, or else that of the node.
func override(node *corev1.Node, pod *corev1.Pod, annotation string) string {
	if text := said(pod.Annotations, annotation); text != "" {
		return text
	}
	return said(node.Annotations, annotation)
}

// draw returns a number in [0, 1) for one question about one pod. The successor of a DaemonSet's pod, which
// has another name, draws the same for as long as its images are the same. The questions keep their former
// names: with new names, every recorded trial would be drawn differently.
func (r Rules) draw(question string, pod *corev1.Pod) float64 {
	who := "pod " + pod.Name
	if owner := metav1.GetControllerOf(pod); owner != nil && owner.Kind == "DaemonSet" {
		who = "daemonset " + owner.Name
	}
	parts := append([]string{question, pod.Namespace, who, pod.Spec.NodeName}, images(pod)...)
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %q", r.Seed, parts))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}

func images(pod *corev1.Pod) []string {
	var names []string
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		names = append(names, c.Image)
	}
	return names
}

// Mode is a way to fail.
type Mode string

// The ways to fail.
const (
	Crash   Mode = "crash"   // the containers end soon after they start, again and again
	Unready Mode = "unready" // the containers run, and never become ready
	Pull    Mode = "pull"    // the image cannot be pulled
)

// Failure is a share of the pods that fail in one way.
type Failure struct {
	Mode  Mode
	Share Share
	// Image is a path.Match pattern for the images of the pods that the failure applies to; "" for all.
	Image string
}

// Failures are shares of pods that fail. They do not overlap. As text they are [MODE:]SHARE[@IMAGE] or
// MODE[@IMAGE], separated by commas.
type Failures []Failure

const failureForms = "give a share such as 1%, a mode (crash, unready, pull), both (pull:5%), " +
	"or one for an image (crash@example.com/agent:2), several with commas, or none"

// MarshalText writes the failures as UnmarshalText reads them.
func (f Failures) MarshalText() ([]byte, error) {
	var parts []string
	for _, one := range f {
		part := string(one.Mode) + ":" + one.Share.String()
		if one.Image != "" {
			part += "@" + one.Image
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return []byte("none"), nil
	}
	return []byte(strings.Join(parts, ",")), nil
}

// UnmarshalText reads failures. "none" means that there are none.
func (f *Failures) UnmarshalText(text []byte) error {
	var all Failures
	if string(text) != "none" {
		for part := range strings.SplitSeq(string(text), ",") {
			one, err := parseFailure(part)
			if err != nil {
				return fmt.Errorf("%q: %w: %s", text, err, failureForms)
			}
			all = append(all, one)
		}
	}
	*f = all
	return nil
}

func parseFailure(text string) (Failure, error) {
	what, image, _ := strings.Cut(text, "@")
	if _, err := path.Match(image, ""); err != nil {
		return Failure{}, fmt.Errorf("the image pattern %q: %w", image, err)
	}
	mode, share, both := strings.Cut(what, ":")
	switch {
	case !both && strings.HasSuffix(what, "%"):
		mode, share = string(Crash), what
	case !both:
		share = "100%"
	}
	f := Failure{Mode: Mode(mode), Image: image}
	if !slices.Contains([]Mode{Crash, Unready, Pull}, f.Mode) {
		return f, fmt.Errorf("%q is not a mode of failure", mode)
	}
	return f, f.Share.UnmarshalText([]byte(share))
}

// pick returns the failure whose share contains the draw; "" if there is none.
func (f Failures) pick(draw float64, images []string) Mode {
	for _, one := range f {
		if !one.about(images) {
			continue
		}
		if draw < float64(one.Share) {
			return one.Mode
		}
		draw -= float64(one.Share)
	}
	return ""
}

func (f Failure) about(images []string) bool {
	return f.Image == "" || slices.ContainsFunc(images, func(image string) bool {
		ok, err := path.Match(f.Image, image)
		return err == nil && ok
	})
}
