package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// startControlPlane returns the kubeconfig, a client and the metrics of an API server with the CRDs.
func startControlPlane(b *testing.B) (string, client.WithWatch, endpoint) {
	b.Helper()
	ctrl.SetLogger(klog.Background())
	environment := &envtest.Environment{CRDDirectoryPaths: []string{"../../config/crd/bases"}, ErrorIfCRDPathMissing: true}
	config, err := environment.Start()
	if err != nil {
		b.Fatalf("starting the control plane (run `make bench`): %v", err)
	}
	b.Cleanup(func() { _ = environment.Stop() })
	kubeconfig := filepath.Join(b.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, environment.KubeConfig, 0o600); err != nil {
		b.Fatal(err)
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	config.QPS, config.Burst = -1, -1
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		b.Fatal(err)
	}
	return kubeconfig, c, apiServer(b, config)
}

// The users as whom the benchmarks act where the admission policies trust nobody else. None of them needs rights of its own.
const (
	operator      = "system:serviceaccount:tenantry-system:tenantry"
	jobController = "system:serviceaccount:kube-system:job-controller"
)

// asOperator returns a kubeconfig that leads to the same API server as the operator's user.
func asOperator(b *testing.B, kubeconfig string) string {
	b.Helper()
	config, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		b.Fatal(err)
	}
	for _, user := range config.AuthInfos {
		user.Impersonate, user.ImpersonateGroups = operator, []string{"system:masters"}
	}
	file := filepath.Join(b.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		b.Fatal(err)
	}
	return file
}

// clientAs returns a client that acts as a user.
func clientAs(b *testing.B, kubeconfig string, scheme *runtime.Scheme, user string) client.WithWatch {
	b.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		b.Fatal(err)
	}
	config.QPS, config.Burst = -1, -1
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:masters"}}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// clients is how many requests the benchmarks themselves send at once.
const clients = 32

// inParallel sends the requests from..to-1 to the API server, with all clients.
func inParallel(b *testing.B, from, to int, do func(i int) error) {
	b.Helper()
	withWorkers(b, clients, from, to, func(i int) error { return insist(func() error { return do(i) }) })
}

// withWorkers calls do for the numbers from..to-1, for n of them at a time.
func withWorkers(b *testing.B, n, from, to int, do func(i int) error) {
	b.Helper()
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			for i := range numbers {
				if err := do(i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := from; i < to; i++ {
		numbers <- i
	}
	close(numbers)
	workers.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// insist calls do again if the API server did not answer. If the first call has created the object, the second fails with
// AlreadyExists, which is no error.
func insist(do func() error) error {
	err := do()
	for range 2 {
		var answer apierrors.APIStatus
		if err == nil || errors.As(err, &answer) {
			return err
		}
		err = client.IgnoreAlreadyExists(do())
	}
	return err
}

// remove deletes all objects of a kind. There is no garbage collector, so their dependents stay.
func remove(b *testing.B, c client.Client, kind client.ObjectList, opts ...client.ListOption) {
	b.Helper()
	items := metadata(b, c, kind, opts...)
	inParallel(b, 0, len(items), func(i int) error {
		err := c.Delete(b.Context(), &items[i], client.PropagationPolicy("Background"))
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting %s %s/%s: %w", items[i].Kind, items[i].Namespace, items[i].Name, err)
		}
		return nil
	})
	waitFor(b, "what was deleted to be gone", func() bool { return len(metadata(b, c, kind, opts...)) == 0 })
}

// metadata returns the metadata of all objects of a kind, page by page.
func metadata(b *testing.B, c client.Client, kind client.ObjectList, opts ...client.ListOption) []metav1.PartialObjectMetadata {
	b.Helper()
	gvk, err := c.GroupVersionKindFor(kind)
	if err != nil {
		b.Fatal(err)
	}
	var all []metav1.PartialObjectMetadata
	for next := ""; ; {
		page := metav1.PartialObjectMetadataList{}
		page.SetGroupVersionKind(gvk)
		if err := c.List(b.Context(), &page, append(opts, client.Limit(1000), client.Continue(next))...); err != nil {
			b.Fatal(err)
		}
		for i := range page.Items {
			page.Items[i].SetGroupVersionKind(gvk.GroupVersion().WithKind(strings.TrimSuffix(gvk.Kind, "List")))
		}
		all = append(all, page.Items...)
		if next = page.Continue; next == "" {
			return all
		}
	}
}
