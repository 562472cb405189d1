// Package cel_test holds the API types against a real API server: what it refuses and what it says then, what it fills
// in, what it prints, and that a newer CustomResourceDefinition leaves the objects of an older one alone.
package cel_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const (
	crdDir     = "../../config/crd/bases"
	samplesDir = "../../config/samples"
	// manager is the field manager of everything that is applied here.
	manager = client.FieldOwner("cel-test")
)

var (
	// restConfig leads to the one API server of all tests.
	restConfig *rest.Config
	// kube validates strictly, as kubectl does.
	kube client.Client
	// installWarnings are what the API server said about the CustomResourceDefinitions.
	installWarnings []string
)

// warningLog keeps warnings of the API server.
type warningLog []string

func (l *warningLog) HandleWarningHeaderWithContext(_ context.Context, _ int, _ string, text string) {
	*l = append(*l, text)
}

func TestMain(m *testing.M) {
	ctrl.SetLogger(klog.Background())
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return 1, errors.New("KUBEBUILDER_ASSETS must name a folder with etcd and kube-apiserver: run `make test`, " +
			"or set it to the last line of `make controlplane`")
	}
	env := &envtest.Environment{}
	if restConfig, err = env.Start(); err != nil {
		return 1, fmt.Errorf("starting the API server: %w", err)
	}
	defer func() { err = errors.Join(err, env.Stop()) }()
	restConfig.QPS = -1
	var warnings warningLog
	restConfig.WarningHandlerWithContext = &warnings

	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		utilruntime.Must(add(scheme))
	}
	if kube, err = client.New(restConfig, client.Options{Scheme: scheme}); err != nil {
		return 1, fmt.Errorf("making a client: %w", err)
	}
	kube = client.WithFieldValidation(kube, "Strict")

	ctx := context.Background()
	for _, crd := range loadCRDs() {
		if err := installCRD(ctx, crd); err != nil {
			return 1, err
		}
	}
	installWarnings = slices.Clone(warnings)
	return m.Run(), nil
}

// loadCRDs reads the CustomResourceDefinitions as they are installed.
func loadCRDs() []*apiextensionsv1.CustomResourceDefinition {
	files, err := filepath.Glob(filepath.Join(crdDir, "*.yaml"))
	utilruntime.Must(err)
	crds := make([]*apiextensionsv1.CustomResourceDefinition, 0, len(files))
	for _, file := range files {
		crds = append(crds, decodeFile[apiextensionsv1.CustomResourceDefinition](file))
	}
	return crds
}
