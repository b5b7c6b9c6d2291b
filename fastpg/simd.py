"""Temporary."""
from numba import types
from numba.extending import intrinsic, overload
from llvmlite import ir
from fastpg.dispatch import exact
@intrinsic
def fma(tyctx, a, b, c):
    def cg(context, builder, sig, args):
        return builder.fma(*args)
    return types.float64(types.float64, types.float64, types.float64), cg
@intrinsic
def float_from_bits(tyctx, a):
    def cg(context, builder, sig, args):
        return builder.bitcast(args[0], ir.DoubleType())
    return types.float64(a), cg
@intrinsic
def bits_from_float(tyctx, a):
    def cg(context, builder, sig, args):
        return builder.bitcast(args[0], ir.IntType(64))
    return types.int64(a), cg
MAGIC = 6755399441055744.0
@exact
def exp(x):
    x = min(max(x, -708.0), 709.0)
    t = fma(x, 1.4426950408889634, MAGIC)
    n = t - MAGIC
    r = fma(n, -6.93147180369123816490e-01, x)
    r = fma(n, -1.90821492927058770002e-10, r)
    r2=r*r; r4=r2*r2
    c0=fma(1/6,r,0.5); c1=fma(1/120,r,1/24); c2=fma(1/5040,r,1/720); c3=fma(1/362880,r,1/40320); c4=fma(1/39916800,r,1/3628800)
    d0=fma(c1,r2,c0); d1=fma(c3,r2,c2)
    q=fma(fma(c4,r4,d1),r4,d0)
    p = 1.0+fma(q,r2,r)
    return p * float_from_bits((bits_from_float(t) + 1023) << 52)
@exact
def _red(x):
    t = fma(x, 0.6366197723675814, MAGIC)
    n = t - MAGIC
    r = fma(-n, 1.5707963267341256, x); r = fma(-n, 6.077100506303966e-11, r); r = fma(-n, 2.0222662487959506e-21, r)
    return r, bits_from_float(t)
@exact
def _ks(r):
    z=r*r
    z2=z*z
    a=fma(8.33333333332248946124e-03,z,-1.66666666666666324348e-01)
    b=fma(2.75573137070700676789e-06,z,-1.98412698298579493134e-04)
    c=fma(1.58969099521155010221e-10,z,-2.50507602534068634195e-08)
    p=fma(fma(c,z2,b),z2,a)
    return fma(p*z, r, r)
@exact
def _kc(r):
    z=r*r
    z2=z*z
    a=fma(-1.38888888888741095749e-03,z,4.16666666666666019037e-02)
    b=fma(-2.75573143513906633035e-07,z,2.48015872894767294178e-05)
    c=fma(-1.13596475577881948265e-11,z,2.08757232129817482790e-09)
    p=fma(fma(c,z2,b),z2,a)
    return fma(p,z2, fma(z, -0.5, 1.0))
@exact
def sin(x):
    r,n=_red(x)
    s=_ks(r); c=_kc(r)
    v = c if n & 1 else s
    return -v if n & 2 else v
@exact
def cos(x):
    r,n=_red(x)
    s=_ks(r); c=_kc(r)
    v = s if n & 1 else c
    return -v if (n+1) & 2 else v
