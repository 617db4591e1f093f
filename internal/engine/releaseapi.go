package engine

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"

	"everynode/internal/view"
)

func (a api) rollouts(namespace string) dynamic.ResourceInterface {
	return a.objects.Resource(view.ReleaseResource(view.RolloutResource)).Namespace(namespace)
}

// getRollout reads an object without caches; nil: there is none.
func (a api) getRollout(ctx context.Context, namespace, name string) (*rolloutEntry, error) {
	var got *unstructured.Unstructured
	err := a.read(ctx, kind{"get " + view.RolloutResource, namespace}, func(ctx context.Context) (err error) {
		got, err = a.rollouts(namespace).Get(ctx, name, metav1.GetOptions{})
		return err
	})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return strictRollout(got, err)
}

func (a api) createRollout(ctx context.Context, o *view.DaemonSetRollout) (*rolloutEntry, error) {
	return a.writeRollout(ctx, "create "+view.RolloutResource, o, func(ctx context.Context, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		return a.rollouts(o.Namespace).Create(ctx, u, metav1.CreateOptions{})
	})
}

// updateRollout writes the status, if the object still has its version.
func (a api) updateRollout(ctx context.Context, o *view.DaemonSetRollout) (*rolloutEntry, error) {
	return a.writeRollout(ctx, "update "+view.RolloutResource+"/status", o, func(ctx context.Context, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		return a.rollouts(o.Namespace).UpdateStatus(ctx, u, metav1.UpdateOptions{})
	})
}

func (a api) writeRollout(ctx context.Context, what string, o *view.DaemonSetRollout,
	write func(context.Context, *unstructured.Unstructured) (*unstructured.Unstructured, error)) (*rolloutEntry, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("encode DaemonSetRollout %s/%s: %w", o.Namespace, o.Name, err)
	}
	var made *unstructured.Unstructured
	err = a.write(ctx, kind{what, o.Namespace}, func(ctx context.Context) (err error) {
		made, err = write(ctx, &unstructured.Unstructured{Object: fields})
		return err
	})
	return strictRollout(made, err)
}

// strictRollout returns an object that can be read.
func strictRollout(got *unstructured.Unstructured, err error) (*rolloutEntry, error) {
	if err != nil {
		return nil, err
	}
	e := &rolloutEntry{object: &view.DaemonSetRollout{}}
	e.version, err = read(got, e.object)
	e.object.ManagedFields = nil
	return e, err
}
