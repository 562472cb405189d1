// Package operatortest is for tests of the whole operator. It runs a control plane without nodes, and the operator with the
// rights that it is installed with, and has what such tests say again and again: making objects, waiting for states,
// following what happens. It is to be dot-imported.
package operatortest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"sync/atomic"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/config/policy"
	"github.com/tenantry/tenantry/internal/kube"
)

// OperatorNamespace is where the operator has its own objects.
const OperatorNamespace = "tenantry-system"

var (
	// Scheme of everything that the tests and the operator read and write.
	Scheme = runtime.NewScheme()
	// RestConfig leads to the one API server of all tests, as its administrator.
	RestConfig *rest.Config
	// Admin is the administrator, past any cache.
	Admin client.WithWatch
	// Operator is the one under test. A test that stops or restarts it must not be parallel.
	Operator = &RunningOperator{}
)

// Main is the TestMain of a package whose tests need the operator on an API server: it runs them, and ends the process.
func Main(m *testing.M) {
	flag.Parse()
	utilruntime.Must(flag.Set("test.parallel", "12")) // They wait more than they work.
	ctrl.SetLogger(klog.Background())
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runTests runs the tests on an API server with the controllers that Kubernetes itself brings, and with the operator under
// the very roles and policies that it is installed with. There is no kubelet: runNode takes its place.
func runTests(m *testing.M) (code int, err error) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		return 1, errors.New("KUBEBUILDER_ASSETS must name a folder with etcd, kube-apiserver and kube-controller-manager: " +
			"run `make test`, or set it to the last line of `make controlplane`")
	}
	utilruntime.Must(clientgoscheme.AddToScheme(Scheme))
	utilruntime.Must(v1alpha1.AddToScheme(Scheme))
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join(root(), "config/crd/bases")}, ErrorIfCRDPathMissing: true}
	if RestConfig, err = env.Start(); err != nil {
		return 1, fmt.Errorf("starting the API server: %w", err)
	}
	defer func() { err = errors.Join(err, env.Stop()) }()
	RestConfig.QPS = -1
	if Admin, err = client.NewWithWatch(RestConfig, client.Options{Scheme: Scheme}); err != nil {
		return 1, fmt.Errorf("making a client: %w", err)
	}
	stop, err := startControllerManager(env, assets)
	if err != nil {
		return 1, err
	}
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := kube.EnsureOperatorNamespace(ctx, Admin, OperatorNamespace); err != nil {
		return 1, err
	}
	if err := Install(ctx, "config/rbac/*.yaml"); err != nil {
		return 1, err
	}
	if err := installPolicies(ctx); err != nil {
		return 1, err
	}
	go runNode(ctx)
	if err := Operator.Start(); err != nil {
		return 1, err
	}
	defer Operator.Stop()
	return m.Run(), nil
}

// startControllerManager runs the controllers without which a Job makes no pod and a namespace never goes.
func startControllerManager(env *envtest.Environment, assets string) (stop func(), err error) {
	user, err := env.AddUser(envtest.User{Name: "system:kube-controller-manager", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		return nil, fmt.Errorf("adding a user: %w", err)
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		return nil, fmt.Errorf("making a kubeconfig: %w", err)
	}
	dir, err := os.MkdirTemp("", "controller-manager-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		return nil, err
	}
	var log bytes.Buffer
	cmd := exec.Command(filepath.Join(assets, "kube-controller-manager"),
		"--kubeconfig="+file, "--leader-elect=false", "--secure-port=0", "--kube-api-qps=1000", "--kube-api-burst=2000", "--min-resync-period=1h",
		"--controllers=garbage-collector-controller,job-controller,namespace-controller,resourcequota-controller,serviceaccount-controller,validatingadmissionpolicy-status-controller")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting kube-controller-manager: %w", err)
	}
	exited := make(chan struct{})
	var stopping atomic.Bool
	go func() {
		defer close(exited)
		if err := cmd.Wait(); !stopping.Load() {
			panic(fmt.Sprintf("kube-controller-manager: %v\n%s", err, log.String()))
		}
	}()
	return func() {
		stopping.Store(true)
		_ = cmd.Process.Kill()
		<-exited
		_ = os.RemoveAll(dir)
	}, nil
}

// adminName is the user that envtest makes the administrator.
const adminName = "admin"

// Policies are the admission policies that the operator of the tests keeps in force. They bind everybody, including the operator and
// the controllers of Kubernetes, but not the administrator of the tests: many tests begin with what the policies refuse, since it
// can be there from before the policies, or come in while one is missing.
func Policies() policy.Set {
	set, err := policy.For(OperatorNamespace, policy.ServiceAccount(OperatorNamespace))
	utilruntime.Must(err)
	for _, p := range set.Policies {
		p.Spec.MatchConditions = append(p.Spec.MatchConditions, admissionregistrationv1.MatchCondition{
			Name: "not-the-administrator-of-the-tests", Expression: fmt.Sprintf("request.userInfo.username != %q", adminName),
		})
	}
	return set
}

// installPolicies creates the admission policies, and what the operator tries them out with.
func installPolicies(ctx context.Context) error {
	set := Policies()
	for _, p := range set.Policies {
		if err := Admin.Create(ctx, p); err != nil {
			return err
		}
	}
	for _, binding := range set.Bindings {
		if err := Admin.Create(ctx, binding); err != nil {
			return err
		}
	}
	for _, obj := range set.Probe {
		if err := Admin.Create(ctx, obj); err != nil {
			return err
		}
	}
	return nil
}

// Install applies all objects of the files that the patterns match, as `make deploy` does. The patterns are relative to the
// root of the repository.
func Install(ctx context.Context, patterns ...string) error {
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(root(), pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			if filepath.Base(file) == "kustomization.yaml" {
				continue
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
			for {
				obj := &unstructured.Unstructured{}
				if err := documents.Decode(obj); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					return fmt.Errorf("reading %s: %w", file, err)
				}
				if err := Admin.Apply(ctx, client.ApplyConfigurationFromUnstructured(obj), client.FieldOwner("test"), client.ForceOwnership); err != nil {
					return fmt.Errorf("applying %s: %w", file, err)
				}
			}
		}
	}
	return nil
}

// root is the root of the repository, which is three folders above this file.
func root() string {
	_, file, _, _ := goruntime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../..")
}
