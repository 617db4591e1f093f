package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// containerGrace is how long a container may take to end after its stop
	// signal when the whole node goes, in seconds.
	containerGrace = 2
	// stopPodsWithin bounds the stop of all pods of the node.
	stopPodsWithin = 30 * time.Second
)

// stopPods stops every pod at a CRI endpoint (unix:///...), all at once. The
// kubelet must be gone, or it starts them again.
func stopPods(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, stopPodsWithin)
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
	running := map[string][]string{}
	for _, c := range containers.Containers {
		running[c.PodSandboxId] = append(running[c.PodSandboxId], c.Id)
	}
	errs := make([]error, len(sandboxes.Items))
	var wg sync.WaitGroup
	for i, sandbox := range sandboxes.Items {
		wg.Go(func() { errs[i] = stopPod(ctx, client, sandbox.Id, running[sandbox.Id]) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func stopPod(ctx context.Context, client runtimeapi.RuntimeServiceClient, sandbox string, containers []string) error {
	errs := make([]error, len(containers))
	var wg sync.WaitGroup
	for i, id := range containers {
		wg.Go(func() {
			_, errs[i] = client.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: containerGrace})
		})
	}
	wg.Wait()
	_, err := client.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox})
	if err = errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("stop the pod %.12s: %w", sandbox, err)
	}
	return nil
}
