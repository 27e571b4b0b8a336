"""Writes values.json: privacy losses to 20 digits, from definitions alone. Needs mpmath 1.3."""
import json
import mpmath as mp

mp.mp.dps = 60


def renyi(rate, sigma, order):
    """log E_Q[((1 - q) + q P/Q)^order] / (order - 1) for N(1, sigma^2) and N(0, sigma^2), by quadrature."""
    q, s, a = mp.mpf(rate), mp.mpf(sigma), mp.mpf(order)
    density = lambda x: mp.npdf(x, 0, s) * ((1 - q) + q * mp.e ** ((2 * x - 1) / (2 * s * s))) ** a
    knots = sorted({mp.mpf(k) * s for k in range(-16, 17, 2)} | {a + k * s for k in range(-16, 17, 2)} | {a * mp.mpf(k) / 16 for k in range(1, 16)})
    return mp.log(mp.quad(density, knots)) / (a - 1)


def gaussian_epsilon(mu, delta):
    mu, delta = mp.mpf(mu), mp.mpf(delta)
    tail = lambda x: mp.erfc(x / mp.sqrt(2)) / 2
    excess = lambda e: mp.log(tail(e / mu - mu / 2) - mp.e**e * tail(e / mu + mu / 2)) - mp.log(delta)
    return mp.findroot(excess, (mu * mp.sqrt(2 * mp.log(1 / delta)) * mp.mpf('0.8'), mu * mp.sqrt(2 * mp.log(1 / delta)) + mu * mu / 2), solver='anderson', tol=1e-40)


rows = {
    'renyi': [
        {'rate': q, 'sigma': s, 'order': a, 'value': mp.nstr(renyi(q, s, a), 20)}
        for q, s, a in [
            ('0.01', '1', '1.25'), ('0.01', '1', '2.25'), ('0.01', '0.5', '4.5'), ('0.001', '2', '1.5'), ('0.001', '2', '30.5'),
            ('0.2', '0.8', '3.3'), ('0.5', '1', '10.9'), ('0.01', '4', '63.7'), ('0.0001', '0.5', '6.6'), ('0.05', '1.5', '1.02'),
            ('0.01', '1', '2'), ('0.01', '1', '3'), ('0.2', '3', '17'), ('0.001', '0.7', '8'), ('0.9', '5', '12.5'),
        ]
    ],
    'gaussian': [
        {'mu': m, 'delta': d, 'epsilon': mp.nstr(gaussian_epsilon(m, d), 20)}
        for m, d in [
            ('1', '1e-5'), ('1', '1e-16'), ('1', '1e-30'), ('1', '1e-60'), ('1', '1e-100'), ('0.25', '1e-18'), ('2', '1e-20'), ('0.01', '1e-6'),
            ('5', '1e-12'), ('0.001', '1e-9'),
        ]
    ],
}
print(json.dumps(rows, indent=1))
