package zones

// Brand is the kind of a zone, by SmartOS's names.
type Brand string

// The brands. On Linux all OS brands run Linux user space; the brand decides what process 1 is and which properties
// are taken.
const (
	// BrandJoyent is a full OS container: the image's own init if it has one.
	BrandJoyent Brand = "joyent"
	// BrandMinimal is an OS container with few services; the `sparse` image is made for it.
	BrandMinimal Brand = "joyent-minimal"
	// BrandBuilder is a joyent zone for building the platform.
	BrandBuilder Brand = "builder"
	// BrandLX is Linux user space with the image's init, or docker-style with the image's entrypoint.
	BrandLX Brand = "lx"
	// BrandKVM and BrandBhyve are hardware VMs; QEMU serves both here.
	BrandKVM   Brand = "kvm"
	BrandBhyve Brand = "bhyve"
)

// Brands are all brands, in the manual's order.
var Brands = []Brand{BrandJoyent, BrandMinimal, BrandBuilder, BrandLX, BrandKVM, BrandBhyve}

// Valid reports whether b is one of the brands.
func (b Brand) Valid() bool { return b.class() != 0 }

// HVM reports whether zones of the brand are hardware VMs.
func (b Brand) HVM() bool { return b == BrandKVM || b == BrandBhyve }

// Type is vmadm's type: OS, LX, KVM or BHYV.
func (b Brand) Type() string {
	switch b {
	case BrandLX:
		return "LX"
	case BrandKVM:
		return "KVM"
	case BrandBhyve:
		return "BHYV"
	}
	return "OS"
}

// class is a set of brands, for the property table.
type class uint8

const (
	onJoyent class = 1 << iota
	onLX
	onKVM
	onBhyve

	onOS  = onJoyent | onLX
	onHVM = onKVM | onBhyve
	onAny = onOS | onHVM
)

func (b Brand) class() class {
	switch b {
	case BrandJoyent, BrandMinimal, BrandBuilder:
		return onJoyent
	case BrandLX:
		return onLX
	case BrandKVM:
		return onKVM
	case BrandBhyve:
		return onBhyve
	}
	return 0
}
