// RLtools' PPO on its Pendulum: reads numbers of seconds, trains for so long, prints [steps, seconds].
// The other end is bench/ppo_throughput.py, which gives ENVS, STEPS, BATCH, EPOCHS, UNITS and ACTIVATION.
#include <rl_tools/operations/cpu_mux.h>
#include <rl_tools/nn/optimizers/adam/instance/operations_generic.h>
#include <rl_tools/nn/operations_cpu_mux.h>
#include <rl_tools/nn/layers/standardize/operations_generic.h>
#include <rl_tools/nn_models/mlp_unconditional_stddev/operations_generic.h>
#include <rl_tools/nn_models/sequential/operations_generic.h>
#include <rl_tools/nn/optimizers/adam/operations_generic.h>
#include <rl_tools/rl/environments/pendulum/operations_cpu.h>
#include <rl_tools/rl/algorithms/ppo/loop/core/config.h>
#include <rl_tools/rl/algorithms/ppo/loop/core/operations_generic.h>
#include <chrono>
#include <cstdio>

namespace rlt = rl_tools;
namespace ppo = rlt::rl::algorithms::ppo;
namespace pendulum = rlt::rl::environments::pendulum;

using Device = rlt::devices::DEVICE_FACTORY<>;
using Rng = Device::SPEC::RANDOM::ENGINE<>;
using Number = float;
using Numbers = rlt::numeric_types::Policy<Number>;
using Index = Device::index_t;
using Environment =
    rlt::rl::environments::Pendulum<pendulum::Specification<Number, Index, pendulum::DefaultParameters<Number>>>;

struct Parameters : ppo::loop::core::DefaultParameters<Numbers, Index, Environment> {
    static constexpr Index N_ENVIRONMENTS = ENVS, ON_POLICY_RUNNER_STEPS_PER_ENV = STEPS, BATCH_SIZE = BATCH;
    static constexpr Index DATASET_SIZE = ENVS * STEPS, EPISODE_STEP_LIMIT = 200, STEP_LIMIT = 1000000000;
    static constexpr Index ACTOR_HIDDEN_DIM = UNITS, CRITIC_HIDDEN_DIM = UNITS;
    static constexpr auto ACTOR_ACTIVATION_FUNCTION = rlt::nn::activation_functions::ActivationFunction::ACTIVATION;
    static constexpr auto CRITIC_ACTIVATION_FUNCTION = ACTOR_ACTIVATION_FUNCTION;
    using OPTIMIZER_PARAMETERS = rlt::nn::optimizers::adam::DEFAULT_PARAMETERS_PYTORCH<Numbers>;
    struct PPO_PARAMETERS : ppo::DefaultParameters<Numbers, Index, BATCH> {
        static constexpr Number ACTION_ENTROPY_COEFFICIENT = 0, GAMMA = 0.9, INITIAL_ACTION_STD = 2;
        static constexpr Index N_EPOCHS = EPOCHS;
    };
};
using Config = ppo::loop::core::Config<Numbers, Index, Rng, Environment, Parameters>;

int main() {
    using Clock = std::chrono::steady_clock;
    Device device;
    static Config::State<Config> state;
    rlt::init(device);
    rlt::malloc(device, state);
    rlt::init(device, state, 0);
    for (int i = 0; i < 5; i++) rlt::step(device, state);
    std::printf("{}\n");
    std::fflush(stdout);
    double seconds;
    while (std::scanf("%lf", &seconds) == 1) {
        const auto started = Clock::now();
        double taken = 0;
        size_t steps = 0;
        while (taken < seconds) {
            rlt::step(device, state);
            steps += ENVS * STEPS;
            taken = std::chrono::duration<double>(Clock::now() - started).count();
        }
        std::printf("[%zu, %f]\n", steps, taken);
        std::fflush(stdout);
    }
}
