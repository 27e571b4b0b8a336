{
  # One static library per ISA: its flags reach its own file and nothing that another file could share with it.
  'variables': {
    'warnings': ['-Wall', '-Wextra', '-Wno-cast-function-type'],
    'common': ['-std=gnu++20', '-O3', '-fno-exceptions', '-fno-rtti', '-fvisibility=hidden', '-fPIC'],
    'kernel_common': ['-fno-math-errno', '-fno-trapping-math', '-ffp-contract=off', '-fno-asynchronous-unwind-tables'],
  },
  'target_defaults': {
    'cflags_cc!': ['-std=gnu++17', '-fno-strict-aliasing'],
    'xcode_settings': {
      'CLANG_CXX_LANGUAGE_STANDARD': 'gnu++20',
      'GCC_OPTIMIZATION_LEVEL': '3',
      'GCC_ENABLE_CPP_EXCEPTIONS': 'NO',
      'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
      'MACOSX_DEPLOYMENT_TARGET': '13.5',
    },
    'target_conditions': [
      ['_type=="static_library"', {'product_prefix': 'lib', 'product_extension': 'a', 'win_delay_load_hook': 'false'}],
    ],
  },
  'targets': [
    {
      'target_name': 'kernels_scalar',
      'type': 'static_library',
      'sources': ['kernels/scalar.cc'],
      'cflags_cc': ['<@(common)', '<@(kernel_common)', '<@(warnings)'],
    },
    {
      'target_name': 'cloister',
      'dependencies': [
        'kernels_scalar',
        "<!(node -p \"require('node-addon-api').targets\"):node_addon_api",
      ],
      'defines': ['NAPI_VERSION=9'],
      'include_dirs': ['.'],
      'sources': [
        'addon.cc',
        'dispatch.cc',
        'executor/binding.cc',
        'executor/executor.cc',
        'executor/program.cc',
        'files/binding.cc',
        'files/mapping.cc',
      ],
      'cflags_cc': ['<@(common)', '<@(warnings)'],
      'conditions': [
        ['target_arch=="x64"', {'dependencies': ['kernels_avx2', 'kernels_avx512']}],
        ['target_arch=="arm64"', {'dependencies': ['kernels_neon']}],
      ],
    },
  ],
  'conditions': [
    ['target_arch=="x64"', {
      'targets': [
        {
          'target_name': 'kernels_avx2',
          'type': 'static_library',
          'sources': ['kernels/avx2.cc'],
          'cflags_cc': ['<@(common)', '<@(kernel_common)', '<@(warnings)', '-mavx2', '-mfma'],
          'xcode_settings': {'OTHER_CPLUSPLUSFLAGS': ['-mavx2', '-mfma']},
        },
        {
          'target_name': 'kernels_avx512',
          'type': 'static_library',
          'sources': ['kernels/avx512.cc'],
          'cflags_cc': [
            '<@(common)', '<@(kernel_common)', '<@(warnings)',
            '-mavx512f', '-mavx512dq', '-mavx512bw', '-mavx512vl', '-mfma', '-mprefer-vector-width=512',
          ],
          'xcode_settings': {
            'OTHER_CPLUSPLUSFLAGS': ['-mavx512f', '-mavx512dq', '-mavx512bw', '-mavx512vl', '-mfma'],
          },
        },
      ],
    }],
    ['target_arch=="arm64"', {
      'targets': [
        {
          'target_name': 'kernels_neon',
          'type': 'static_library',
          'sources': ['kernels/neon.cc'],
          'cflags_cc': ['<@(common)', '<@(kernel_common)', '<@(warnings)'],
        },
      ],
    }],
  ],
}
