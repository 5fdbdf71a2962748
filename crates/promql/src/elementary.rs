//! Logarithms, powers and what is made of them, to the last bit as Go computes them on amd64.
//!
//! A good libm is nearer to the truth in the last bit, but a function of what was computed may turn on
//! that bit: `resets` counts where a quantile fell, and it falls where Prometheus' does. The
//! logarithm is that of FreeBSD's `e_log.c`, `exp2` that of its `e_exp.c` (Sun Microsystems, 1993); `exp` follows
//! Shibata, "Efficient evaluation methods of elementary functions suitable for SIMD computation" (2010).

use std::f64::consts::{LOG2_E, LOG10_E, SQRT_2};

use model::histogram::ldexp;

/// ln 2 in two parts: the first has few enough bits that its product with an exponent is exact.
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

/// Fraction in [0.5, 1) and exponent of a finite `x` that is not 0.
fn frexp(x: f64) -> (f64, i32) {
    let (x, shift) = if x.abs() < f64::MIN_POSITIVE {
        (x * (1u64 << 52) as f64, 52)
    } else {
        (x, 0)
    };
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1022 - shift;
    let fraction = f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52);
    (fraction, exponent)
}

/// The natural logarithm. (Of numbers below the normal ones Go's differs in the third digit.)
pub(crate) fn ln(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    let (mut fraction, mut exponent) = frexp(x);
    if fraction <= SQRT_2 / 2.0 {
        fraction *= 2.0;
        exponent -= 1;
    }
    let (f, k) = (fraction - 1.0, f64::from(exponent));
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2
        * (f64::from_bits(0x3fe5_5555_5555_5593)
            + s4 * (f64::from_bits(0x3fd2_4924_9422_9359)
                + s4 * (f64::from_bits(0x3fc7_4664_96cb_03de)
                    + s4 * f64::from_bits(0x3fc2_f112_df3e_5244))));
    let even = s4
        * (f64::from_bits(0x3fd9_9999_9997_fa04)
            + s4 * (f64::from_bits(0x3fcc_71c5_1d8e_78af)
                + s4 * f64::from_bits(0x3fc3_9a09_d078_c69f)));
    let rest = odd + even;
    let half = 0.5 * f * f;
    k * LN2_HIGH - ((half - (s * (half + rest) + k * LN2_LOW)) - f)
}

/// The binary logarithm; exact for powers of two.
pub(crate) fn log2(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return ln(x);
    }
    let (fraction, exponent) = frexp(x);
    if fraction == 0.5 {
        return f64::from(exponent - 1);
    }
    ln(fraction) * LOG2_E + f64::from(exponent)
}

/// The decimal logarithm.
pub(crate) fn log10(x: f64) -> f64 {
    ln(x) * LOG10_E
}

/// 2 to the power of `x`.
pub(crate) fn exp2(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 1024.0_f64.next_down() {
        return f64::INFINITY;
    }
    if x < -1074.0 {
        return 0.0;
    }
    let k = (x + 0.5_f64.copysign(x)).trunc();
    let t = x - k;
    let (high, low) = (t * LN2_HIGH, -t * LN2_LOW);
    let r = high - low;
    let t = r * r;
    let c = r - t
        * (f64::from_bits(0x3fc5_5555_5555_5555)
            + t * (f64::from_bits(0xbf66_c16c_16be_bd93)
                + t * (f64::from_bits(0x3f11_566a_af25_de2c)
                    + t * (f64::from_bits(0xbebb_bd41_c5d2_6bf1)
                        + t * f64::from_bits(0x3e66_3769_72be_a4d0)))));
    let y = 1.0 - ((low - (r * c) / (2.0 - c)) - high);
    ldexp(y, k as i32)
}

/// e to the power of `x`. Go fuses multiplications and additions here where the processor can. (From
/// 709.44 on it is infinite there, which is no answer to follow.)
pub(crate) fn exp(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x > 709.782_712_893_384 {
        return f64::INFINITY;
    }
    if x < -746.0 {
        return 0.0;
    }
    let k = (x * LOG2_E).round_ties_even();
    // ln 2 in two parts again, others than above.
    let x = (-k).mul_add(f64::from_bits(0x3fe6_2e42_fefa_3000), x);
    let x = (-k).mul_add(f64::from_bits(0x3d53_de6a_f278_ece6), x);
    let x = x * 0.0625;
    let sum = [5040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0]
        .into_iter()
        .fold(1.0 / 40_320.0, |sum: f64, factorial: f64| {
            sum.mul_add(x, factorial.recip())
        });
    // e^x - 1 of a sixteenth, squared (as e^x) four times.
    let mut less_one = x * sum;
    for _ in 0..3 {
        less_one *= less_one + 2.0;
    }
    let whole = less_one.mul_add(less_one + 2.0, 1.0);
    ldexp(whole, k as i32)
}

/// The hyperbolic sine; near 0 it is a quotient (Hart and others, "Computer Approximations", no. 2029).
pub(crate) fn sinh(x: f64) -> f64 {
    const P: [f64; 4] = [
        f64::from_bits(0xc123_3fde_ba64_bb4f),
        f64::from_bits(0xc0f5_f38b_8605_d22d),
        f64::from_bits(0xc0a6_9c6c_36da_2dfb),
        f64::from_bits(0xc03a_4e3d_e854_0779),
    ];
    const Q: [f64; 3] = [
        f64::from_bits(0xc123_3fde_ba64_bb4f),
        f64::from_bits(0x40cd_b796_3eae_91e1),
        f64::from_bits(0xc065_b5b9_fcd0_03bb),
    ];
    let a = x.abs();
    let above = if a > 21.0 {
        exp(a) * 0.5
    } else if a > 0.5 {
        let e = exp(a);
        (e - 1.0 / e) * 0.5
    } else {
        let s = a * a;
        let up = ((P[3] * s + P[2]) * s + P[1]) * s + P[0];
        let down = ((s + Q[2]) * s + Q[1]) * s + Q[0];
        up * a / down
    };
    if x < 0.0 { -above } else { above }
}

/// The hyperbolic cosine.
pub(crate) fn cosh(x: f64) -> f64 {
    let a = x.abs();
    let e = exp(a);
    if a > 21.0 {
        e * 0.5
    } else {
        (e + 1.0 / e) * 0.5
    }
}

/// `x` to the power of `y`: whole powers by squaring.
pub(crate) fn pow(x: f64, y: f64) -> f64 {
    // What is special is special in C, too, which Rust's is.
    if !x.is_finite() || !y.is_finite() || x == 0.0 || x == 1.0 || y == 0.0 || y == 1.0 {
        return x.powf(y);
    }
    if y == 0.5 {
        return x.sqrt();
    }
    if y == -0.5 {
        return 1.0 / x.sqrt();
    }
    let (mut whole, mut part) = (y.abs().trunc(), y.abs().fract());
    if part != 0.0 && x < 0.0 {
        return f64::NAN;
    }
    if whole >= (1u64 << 63) as f64 {
        return x.powf(y);
    }
    let (mut fraction, mut exponent) = (1.0, 0i64);
    if part != 0.0 {
        if part > 0.5 {
            part -= 1.0;
            whole += 1.0;
        }
        fraction = exp(part * ln(x));
    }
    let (mut base, base_exponent) = frexp(x);
    let mut base_exponent = i64::from(base_exponent);
    let mut bits = whole as i64;
    while bits != 0 {
        if base_exponent.abs() > 1 << 12 {
            // The result is 0 or infinite.
            exponent += base_exponent;
            break;
        }
        if bits & 1 == 1 {
            fraction *= base;
            exponent += base_exponent;
        }
        base *= base;
        base_exponent <<= 1;
        if base < 0.5 {
            base += base;
            base_exponent -= 1;
        }
        bits >>= 1;
    }
    if y < 0.0 {
        fraction = 1.0 / fraction;
        exponent = -exponent;
    }
    // The clamped exponents are out of reach already.
    ldexp(fraction, exponent.clamp(-5000, 5000) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go says: `ln`, `log2`, `exp2`, `exp`, the power 2.3, `sinh` and `cosh`.
    const GO: [(f64, [u64; 7]); 8] = [
        (
            0.1,
            [
                0xc002_6bb1_bbb5_5515,
                0xc00a_934f_0979_a371,
                0x3ff1_25fb_ee25_0664,
                0x3ff1_aec7_b35a_00d4,
                0x3f74_8754_3c6a_9258,
                0x3fb9_a487_337b_59b4,
                0x3ff0_147f_4022_4b38,
            ],
        ),
        (
            0.3,
            [
                0xbff3_4378_fcbd_a721,
                0xbffb_ca9c_6f53_897a,
                0x3ff3_b2c4_7bff_8329,
                0x3ff5_9905_8c8c_1a96,
                0x3fb0_0e29_2c65_919d,
                0x3fd3_7d42_af54_b926,
                0x3ff0_b9b4_e0b6_ec4c,
            ],
        ),
        (
            1.7,
            [
                0x3fe0_fae8_1914_a991,
                0x3fe8_7f42_b972_949d,
                0x4009_fdf8_bcce_533d,
                0x4015_e552_770d_f8a7,
                0x400b_1c0c_46dc_b4e9,
                0x4005_2a41_1348_ac57,
                0x4006_a063_dad3_44f7,
            ],
        ),
        (
            2.5,
            [
                0x3fed_5240_f0e0_e078,
                0x3ff5_269e_12f3_46e2,
                0x4016_a09e_667f_3bcc,
                0x4028_5d6f_d931_e0bb,
                0x4020_746c_4d42_2634,
                0x4018_3368_cdb0_b6d3,
                0x4018_8776_e4b3_0aa3,
            ],
        ),
        (
            12.75,
            [
                0x4004_5d3f_7fd3_e408,
                0x400d_6120_89a6_274d,
                0x40ba_e89f_995a_d3ae,
                0x4115_079f_95a5_2756,
                0x4075_ce0b_c3c3_81ae,
                0x4105_079f_95a4_6491,
                0x4105_079f_95a5_ea1b,
            ],
        ),
        (
            1e-7,
            [
                0xc030_1e3b_843e_aa73,
                0xc037_40e5_284a_6f03,
                0x3ff0_0000_129b_4575,
                0x3ff0_0000_1ad7_f2b1,
                0x3c96_e51b_9ce2_01b0,
                0x3e7a_d7f2_9abc_af54,
                0x3ff0_0000_0000_0016,
            ],
        ),
        (
            123_456.789,
            [
                0x4027_7281_cad8_a844,
                0x4030_e9e4_bf2a_1cb2,
                0x7ff0_0000_0000_0000,
                0x7ff0_0000_0000_0000,
                0x425d_e2c2_7a23_bafd,
                0x7ff0_0000_0000_0000,
                0x7ff0_0000_0000_0000,
            ],
        ),
        (
            SQRT_2 / 2.0,
            [
                0xbfd6_2e42_fefa_39ee,
                0xbfdf_ffff_ffff_fffe,
                0x3ffa_1ed4_8c0d_3951,
                0x4000_3994_58f5_a0d7,
                0x3fdc_d70b_35cd_636f,
                0x3fe8_8f8c_b2e7_abe2,
                0x3ff4_2b62_5877_6bbd,
            ],
        ),
    ];

    #[test]
    fn every_bit_is_as_in_go() {
        for (x, go) in GO {
            let ours = [
                ln(x),
                log2(x),
                exp2(x),
                exp(x),
                pow(x, 2.3),
                sinh(x),
                cosh(x),
            ];
            let ours = ours.map(f64::to_bits);
            assert_eq!(ours, go, "{x}");
        }
    }

    #[test]
    fn what_is_special_is_as_in_c() {
        let all = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            2.0,
            -2.5,
            0.5,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            5e-324,
            1e308,
        ];
        let same =
            |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || ((a - b) / b).abs() < 1e-14;
        for x in all {
            assert!(
                same(ln(x), x.ln()) && same(log2(x), x.log2()) && same(log10(x), x.log10()),
                "{x}"
            );
            assert!(same(exp(x), x.exp()) && same(exp2(x), x.exp2()), "{x}");
            assert!(same(sinh(x), x.sinh()) && same(cosh(x), x.cosh()), "{x}");
            for y in all {
                assert!(
                    same(pow(x, y), x.powf(y)),
                    "{x} {y}: {} {}",
                    pow(x, y),
                    x.powf(y)
                );
            }
        }
    }
}
