package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/util/wait"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// containerGrace is how long a container may take to end after its stop signal
	// when the node stops, in seconds.
	containerGrace = 2
	// longestGrace is how long it may take when the node leaves the cluster, in
	// seconds.
	longestGrace = 60
	// stopPodsWithin bounds the stop of all pods of the node, beyond their grace.
	stopPodsWithin = 30 * time.Second
	// graceAnnotation is where the kubelet records the pod's own grace, in seconds.
	graceAnnotation = "io.kubernetes.pod.terminationGracePeriod"
)

// quickly is the grace of containers on a node that stops.
func quickly(*runtimeapi.Container) int64 { return containerGrace }

// asAsked is the grace that the pod of a container asks for, within bounds.
func asAsked(c *runtimeapi.Container) int64 {
	grace, err := strconv.ParseInt(c.Annotations[graceAnnotation], 10, 64)
	if err != nil || grace < 0 {
		return containerGrace
	}
	return min(grace, longestGrace)
}

// stopPods stops all pods at a CRI endpoint (unix:///...) at once, and with remove
// removes them. The kubelet must have ended, or it starts them again.
func stopPods(ctx context.Context, endpoint string, grace func(*runtimeapi.Container) int64, remove bool) error {
	ctx, cancel := context.WithTimeout(ctx, stopPodsWithin+longestGrace*time.Second)
	defer cancel()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to the container runtime: %w", err)
	}
	defer conn.Close()
	client := runtimeapi.NewRuntimeServiceClient(conn)

	sandboxes, err := client.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("list the pods: %w", err)
	}
	containers, err := client.ListContainers(ctx, &runtimeapi.ListContainersRequest{
		Filter: &runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}},
	})
	if err != nil {
		return fmt.Errorf("list the containers: %w", err)
	}
	running := map[string][]*runtimeapi.StopContainerRequest{}
	for _, c := range containers.Containers {
		running[c.PodSandboxId] = append(running[c.PodSandboxId], &runtimeapi.StopContainerRequest{ContainerId: c.Id, Timeout: grace(c)})
	}
	errs := make([]error, len(sandboxes.Items))
	var wg sync.WaitGroup
	for i, sandbox := range sandboxes.Items {
		wg.Go(func() {
			errs[i] = stopPod(ctx, client, sandbox.Id, running[sandbox.Id])
			if errs[i] == nil && remove {
				_, errs[i] = client.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sandbox.Id})
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// waitForRuntime returns once a container runtime answers at a CRI endpoint. A runtime
// that has just started listens before it answers.
func waitForRuntime(ctx context.Context, endpoint string) error {
	if err := waitForListener(ctx, endpoint); err != nil {
		return err
	}
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to the container runtime: %w", err)
	}
	defer conn.Close()
	client := runtimeapi.NewRuntimeServiceClient(conn)
	var last error
	err = wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		_, last = client.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
		return last == nil, nil
	})
	if err != nil && last != nil {
		return fmt.Errorf("wait for the container runtime: %w", last)
	}
	return err
}

// waitForListener waits until something listens at a unix socket. gRPC would report
// each refused connection on standard error.
func waitForListener(ctx context.Context, endpoint string) error {
	path, isSocket := strings.CutPrefix(endpoint, "unix://")
	if !isSocket {
		return nil
	}
	var last error
	err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			return true, conn.Close()
		}
		last = err
		return false, nil
	})
	if err != nil && last != nil {
		return fmt.Errorf("wait for the container runtime: %w", last)
	}
	return err
}

func stopPod(ctx context.Context, client runtimeapi.RuntimeServiceClient, sandbox string, containers []*runtimeapi.StopContainerRequest) error {
	errs := make([]error, len(containers))
	var wg sync.WaitGroup
	for i, stop := range containers {
		wg.Go(func() { _, errs[i] = client.StopContainer(ctx, stop) })
	}
	wg.Wait()
	_, err := client.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox})
	if err = errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("stop the pod %.12s: %w", sandbox, err)
	}
	return nil
}
